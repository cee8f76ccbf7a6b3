/** A Vulkan driver that runs on the CPU (SwiftShader), taken from an npm package: no system package, no download. */

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { brotliDecompress } from 'node:zlib';
import { UserError } from '../../generator/diagnostics/index.ts';

const PACKAGE = '@sparticuz/chromium';
/** Results are compared bit by bit with those of this one driver, so another build of it is another device. */
const VERSION = '147.0.0';
const ARCHIVE_SHA256 = 'f957ea867313f9815b71dc2ed30cce301e01db4f3973fbdb31ffa5391b0ec45a';
const INSTALL = `npm install --save-dev ${PACKAGE}@${VERSION}`;

const LOADER = 'libvulkan.so.1';
const MANIFEST = 'vk_swiftshader_icd.json';
/** What is needed of the archive; the EGL and GLES libraries beside it are not. */
const FILES: readonly { readonly name: string; readonly sha256: string }[] = [
  { name: LOADER, sha256: 'fe17a77c1f2df38d3b6a935140f746fd80aac564bb44eb3e4f6b75a504295a41' },
  {
    name: 'libvk_swiftshader.so',
    sha256: '5b9e8591c7c2d1c9618c3ad485d0cdffb81f5f1ffd6a982fdb6578c2d8d3213e',
  },
  { name: MANIFEST, sha256: 'c9eef28b6b984fec220ef0abfecc40b502d46946706e47bfe97707027cb818bd' },
];

export interface SoftwareDriver {
  /** Path of the Vulkan loader. */
  readonly loader: string;
  /** Path of the file that names the driver to the loader. */
  readonly manifest: string;
}

export type DriverArchive =
  | { readonly path: string; readonly missing?: never }
  | {
      readonly path?: never;
      /** Why there is none, and what to do if something can be done. */
      readonly missing: { readonly text: string; readonly hint?: string };
    };

/** The archive that holds the driver, or why there is none here. */
export function driverArchive(platform = `${process.platform}-${process.arch}`): DriverArchive {
  if (platform !== 'linux-x64') {
    return { missing: { text: `the software driver is for linux-x64, this is ${platform}` } };
  }
  // Its exports hide all files but the entry, which later versions may hide from require(): look for the folder.
  for (const from of [import.meta.url, join(process.cwd(), 'package.json')]) {
    for (const folder of createRequire(from).resolve.paths(PACKAGE) ?? []) {
      const path = join(folder, PACKAGE, 'bin', 'swiftshader.tar.br');
      if (existsSync(path)) return { path };
    }
  }
  return { missing: { text: `there is no software driver (${PACKAGE})`, hint: INSTALL } };
}

/**
 * Unpacks the driver into the cache folder (`POLARC_CACHE`, else `~/.cache/polarc`), or finds it there. Throws a
 * `UserError` that names what is missing.
 */
export async function unpackDriver(
  progress: (line: string) => void = () => {},
  archive: DriverArchive = driverArchive(),
): Promise<SoftwareDriver> {
  const cache = join(cacheFolder(), 'swiftshader');
  const folder = join(cache, ARCHIVE_SHA256.slice(0, 32));
  const broken: string[] = [];
  for (const { name, sha256 } of FILES) {
    if ((await fileHash(join(folder, name))) !== sha256) broken.push(name);
  }
  if (broken.length > 0) {
    const contents = await readArchive(archive);
    progress(`unpacking the software driver to ${folder}`);
    try {
      await write(cache, folder, broken, contents);
    } catch (error) {
      const text = `the build cache ${cache} cannot be written: ${(error as Error).message}`;
      throw new UserError('P302', text, 'name a folder in POLARC_CACHE');
    }
  }
  return { loader: join(folder, LOADER), manifest: join(folder, MANIFEST) };
}

async function readArchive(archive: DriverArchive): Promise<ReadonlyMap<string, Buffer>> {
  if (archive.missing) throw new UserError('P301', archive.missing.text, archive.missing.hint);
  let packed: Buffer;
  try {
    packed = await readFile(archive.path);
  } catch (error) {
    const text = `the software driver cannot be read: ${(error as Error).message}`;
    throw new UserError('P301', text, INSTALL);
  }
  const found = sha256(packed);
  if (found !== ARCHIVE_SHA256) {
    const text =
      `${archive.path} is not the software driver of ${PACKAGE} ${VERSION}: ` +
      `its SHA-256 is ${found}, not ${ARCHIVE_SHA256}`;
    throw new UserError('P301', text, INSTALL);
  }
  return untar(await promisify(brotliDecompress)(packed));
}

/** Moves whole files into place one by one: another process finds the old one or the new one, never none. */
async function write(
  cache: string,
  folder: string,
  names: readonly string[],
  contents: ReadonlyMap<string, Buffer>,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const temporary = await mkdtemp(join(cache, 'unpacking-'));
  try {
    for (const name of names) {
      await writeFile(join(temporary, name), contents.get(name)!);
      await rename(join(temporary, name), join(folder, name));
    }
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

const BLOCK = 512;

/** The plain files of a tar archive. Its hash is known, so it is not one that is cut off or means harm. */
function untar(bytes: Buffer): ReadonlyMap<string, Buffer> {
  const files = new Map<string, Buffer>();
  const text = (start: number, length: number) =>
    bytes.toString('latin1', start, start + length).replace(/\0.*$/s, '');
  // An archive ends with blocks of zeros.
  for (let at = 0; at < bytes.length && bytes[at] !== 0; ) {
    const name = text(at, 100);
    const size = Number.parseInt(text(at + 124, 12), 8);
    const start = at + BLOCK;
    if (text(at + 156, 1) === '0') files.set(name, bytes.subarray(start, start + size));
    at = start + Math.ceil(size / BLOCK) * BLOCK;
  }
  return files;
}

async function fileHash(path: string): Promise<string | null> {
  try {
    return sha256(await readFile(path));
  } catch {
    return null;
  }
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function cacheFolder(): string {
  return resolve(process.env.POLARC_CACHE ?? join(homedir(), '.cache', 'polarc'));
}
