/**
 * Serves the page on this machine: `node examples/browser/serve.js [--port N]`. Any static server at the root of the
 * repository does as well; this one gives out only what the page needs.
 */

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { parseArgs } from 'node:util';

const ROOT = join(import.meta.dirname, '../..');
const PAGE = '/examples/browser/';
const FOLDERS = [PAGE, '/generated/', '/test/fixtures/'];
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.safetensors': 'application/octet-stream',
};

/** The file of a request, or null. */
async function fileOf(url) {
  let pathname;
  try {
    pathname = decodeURIComponent(new URL(url, 'http://localhost').pathname);
  } catch {
    return null; // no path at all
  }
  if (pathname.endsWith('/')) pathname += 'index.html';
  const type = TYPES[extname(pathname)];
  // `new URL` has resolved dots that are written out; what was escaped is refused.
  const plain = !/[\\\0]|(^|\/)\.\.?(\/|$)/.test(pathname);
  if (type === undefined || !plain || !FOLDERS.some((folder) => pathname.startsWith(folder))) {
    return null;
  }
  const path = join(ROOT, pathname);
  const found = await stat(path).catch(() => null);
  return found?.isFile() ? { path, type, size: found.size } : null;
}

async function answer(request, response) {
  const end = (status, headers, text = '') => {
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers });
    response.end(text);
  };
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return end(405, { allow: 'GET, HEAD' });
  if (request.url === '/') return end(302, { location: PAGE });
  const file = await fileOf(request.url);
  if (file === null) return end(404, {}, 'There is no such file.\n');
  response.writeHead(200, {
    'content-type': file.type,
    'content-length': file.size,
    'cache-control': 'no-cache',
    // The page asks nobody else for anything.
    'content-security-policy': "default-src 'self'",
    'x-content-type-options': 'nosniff',
  });
  if (request.method === 'HEAD') return response.end();
  const stream = createReadStream(file.path);
  stream.on('error', () => response.destroy());
  stream.pipe(response);
}

const { values } = parseArgs({ options: { port: { type: 'string', default: '8640' } } });
const port = Number(values.port);
if (!Number.isInteger(port) || port < 0 || port > 65_535) {
  console.error(`--port must be a whole number from 0 (any that is free) to 65535: ${values.port}`);
  process.exit(2);
}

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.destroy());
});
server.on('error', (error) => {
  const busy = error.code === 'EADDRINUSE';
  console.error(busy ? `port ${port} is in use: --port 0 takes one that is free` : error.message);
  process.exit(1);
});
// Only this machine reaches it, and browsers offer WebGPU on localhost without https.
server.listen(port, 'localhost', () => {
  console.log(`http://localhost:${server.address().port}${PAGE}`);
});
