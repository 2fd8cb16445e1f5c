/** The launcher and the set-up's own pieces, as processes. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readlink, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { testFolder } from './support/folders.ts';

const ROOT = fileURLToPath(new URL('../', import.meta.url));

interface Ran {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function node(words: readonly string[], env: NodeJS.ProcessEnv = {}, kill?: NodeJS.Signals): Promise<Ran> {
  const child = spawn(process.execPath, words, { cwd: ROOT, env: { ...process.env, ...env }, stdio: 'pipe' });
  const ran = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      ran[name] += text;
      if (kill && ran.stdout.includes('ready')) child.kill(kill);
    });
  }
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { ...ran, code, signal };
}

test('lifeboat --version says the version of the package', async () => {
  const { code, stdout } = await node(['bin/lifeboat.mjs', '--version'], { LIFEBOAT_RUN_SOURCES: '1' });
  assert.equal(code, 0);
  assert.match(stdout, /^\d+\.\d+\.\d+\s*$/);
});

test('a worker is its launcher, with the bounds of a worker, unless somebody has set others', async () => {
  const telling = '--import data:text/javascript,console.error(JSON.stringify([process.pid,...process.execArgv]))';
  const started = async (options: string): Promise<string[][]> => {
    const env = { LIFEBOAT_RUN_SOURCES: '1', NODE_OPTIONS: `${telling} ${options}` };
    const { code, stderr } = await node(['bin/lifeboat.mjs', 'worker', '--help'], env);
    assert.equal(code, 0);
    return stderr
      .split('\n')
      .filter((line) => line.startsWith('['))
      .map((line) => (JSON.parse(line) as unknown[]).map(String));
  };
  const [first, second, ...more] = await started('');
  assert.equal(first?.length, 1);
  assert.equal(second?.[0], first?.[0]);
  assert.ok(second?.some((flag) => flag.startsWith('--max-old-space-size=')));
  assert.deepEqual(more, []);
  assert.equal((await started('--max-old-space-size=4000')).length, 1);
});

test('what is not built yet is refused with its code', async () => {
  for (const name of ['bench', 'fuzz', 'chaos']) {
    const { code, stderr } = await node(['scripts/not-built-yet.mjs', name]);
    assert.equal(code, 2);
    assert.match(stderr, new RegExp(`^LB1002: npm run ${name} .*\n$`));
  }
});

test('the lock of the set-up keeps a second one out, and does not outlive its holder', async () => {
  await using folder = await testFolder();
  const lock = join(folder.path, 'lock');
  const script = join(folder.path, 'hold.mjs');
  const module = pathToFileURL(join(ROOT, 'scripts/lib/lock.mjs')).href;
  await writeFile(
    script,
    `import { withLock } from ${JSON.stringify(module)};
     let inside = 0;
     const enter = () => withLock(${JSON.stringify(lock)}, async () => {
       if (++inside !== 1) throw new Error('two at once');
       await new Promise((settle) => setTimeout(settle, 20));
       inside -= 1;
     });
     await Promise.all([enter(), enter(), enter()]);
     if (process.argv[2] === 'hang') await withLock(${JSON.stringify(lock)}, () => {
       console.log('ready');
       return new Promise(() => setInterval(() => {}, 1000));
     });`,
  );
  const killed = await node([script, 'hang'], {}, 'SIGKILL');
  assert.equal(killed.signal, 'SIGKILL');
  assert.match(await readlink(lock), /^\d+:/);
  assert.equal((await node([script])).code, 0);
  // The number of this process, but not this process.
  await symlink(`${process.pid}:1`, lock);
  assert.equal((await node([script])).code, 0);
});
