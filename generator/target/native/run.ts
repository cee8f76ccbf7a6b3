import { spawn } from 'node:child_process';

export interface Finished {
  /** Exit code; −1 where the program could not be started. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end, without a shell; its messages are in English, and it is spared the sanitizer libraries that
 * this process may have been started with. Never throws.
 */
export function run(program: string, args: readonly string[]): Promise<Finished> {
  return new Promise((done) => {
    const { LD_PRELOAD: _, ...inherited } = process.env;
    const env = { ...inherited, LC_ALL: 'C' };
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', (error) => done({ code: -1, stdout, stderr: error.message }));
    child.on('close', (code) => done({ code: code ?? -1, stdout, stderr }));
  });
}
