/** Editing lifeboat.yaml: what a person wrote stays, and no edit is lost. */
import assert from 'node:assert/strict';
import { chmod, readdir, readFile, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { addDeployment, removeDeployment } from '../src/config/edit.ts';
import { loadConfig } from '../src/config/load.ts';
import { isLifeboatError, type ErrorName } from '../src/shared/errors.ts';
import { testFolder } from './support/folders.ts';

const WRITTEN = `# our backups
daemon: { id: host-1 } # the big one

deployments:
  # the shop
  shop:
    uri: "\${SHOP_URI}" # from the vault
  # old, soon to go
  old: { uri: mongodb://old }
# the end
`;

const ofKind = (kind: ErrorName) => (error: unknown) => isLifeboatError(error, kind);

async function mode(file: string): Promise<number> {
  return (await stat(file)).mode & 0o777;
}

test('adding and removing leaves comments, order and all other deployments as they were', async () => {
  await using folder = await testFolder();
  const file = join(folder.path, 'lifeboat.yaml');
  await writeFile(file, WRITTEN);
  await addDeployment(file, 'new', { uri: '${NEW_URI}' });
  await removeDeployment(file, 'old');
  assert.equal(
    await readFile(file, 'utf8'),
    `# our backups
daemon: { id: host-1 } # the big one

deployments:
  # the shop
  shop:
    uri: "\${SHOP_URI}" # from the vault
  new:
    uri: "\${NEW_URI}"

# the end
`,
  );
});

test('a deployment can be added to a file that is absent, empty, all comments, or has an empty section', async () => {
  await using folder = await testFolder();
  const file = join(folder.path, 'deep', 'lifeboat.yaml');
  for (const [before, after] of [
    [undefined, 'deployments:\n'],
    ['', 'deployments:\n'],
    ['# later\n', '# later\n\ndeployments:\n'],
    ['deployments:\n  # shop: x\nlimits: {}\n', 'deployments:\n  # shop: x\n'],
    ['deployments: {}\n', 'deployments:\n'],
    ['limits: {}\r\n', 'limits: {}\r\n\r\ndeployments:\r\n'],
  ] as const) {
    if (before !== undefined) await writeFile(file, before);
    const config = await addDeployment(file, '2024', { uriFile: '/run/uri' });
    assert.deepEqual([...config.deployments.keys()], ['2024']);
    const written = await readFile(file, 'utf8');
    assert.ok(written.startsWith(after), JSON.stringify(written));
    assert.deepEqual(await loadConfig({ file }), config);
  }
});

test('a command is written as a list, each of its words in quotes', async () => {
  await using folder = await testFolder();
  const file = join(folder.path, 'lifeboat.yaml');
  const source = { uriCommand: ['vault', 'kv', '-field=uri', 'a "b": {c}'] } as const;
  const config = await addDeployment(file, 'a', source);
  assert.deepEqual(config.deployments.get('a')?.source, source);
  assert.match(await readFile(file, 'utf8'), /uriCommand: \[ ?"vault", "kv", "-field=uri", "a \\"b\\": \{c\}" ?\]/);
});

test('the last deployment can be removed and one added again', async () => {
  await using folder = await testFolder();
  const file = join(folder.path, 'lifeboat.yaml');
  await addDeployment(file, 'a', { uri: '${A}' });
  await removeDeployment(file, 'a');
  assert.equal((await loadConfig({ file })).deployments.size, 0);
  await addDeployment(file, 'a', { uri: '${A}' });
  assert.equal(await readFile(file, 'utf8'), 'deployments:\n  a:\n    uri: "${A}"\n');
});

test('of edits at once none is lost, and nothing is left beside the file', async () => {
  await using folder = await testFolder();
  const file = join(folder.path, 'lifeboat.yaml');
  const names = Array.from({ length: 12 }, (_, n) => `d${n}`);
  await Promise.all(names.map((name) => addDeployment(file, name, { uri: '${X}' })));
  const { deployments } = await loadConfig({ file });
  assert.deepEqual([...deployments.keys()].sort(), names.sort());
  assert.deepEqual(await readdir(folder.path), ['lifeboat.yaml']);
});

test('the lock of an editor that died does not hold up the next', async () => {
  await using folder = await testFolder();
  const file = join(folder.path, 'lifeboat.yaml');
  await writeFile(`${file}.lock`, '');
  const longAgo = new Date(Date.now() - 60_000);
  await utimes(`${file}.lock`, longAgo, longAgo);
  await addDeployment(file, 'a', { uri: '${A}' });
  assert.deepEqual(await readdir(folder.path), ['lifeboat.yaml']);
});

test('a file that comes to hold a password is readable by its owner alone; another keeps its mode', async () => {
  await using folder = await testFolder();
  const file = join(folder.path, 'lifeboat.yaml');
  await writeFile(file, WRITTEN);
  await chmod(file, 0o640);
  await addDeployment(file, 'a', { uri: '${A}' });
  assert.equal(await mode(file), 0o640);
  await addDeployment(file, 'b', { uri: 'mongodb://bob:hunter2@h/' });
  assert.equal(await mode(file), 0o600);
});

test('where the file is a link the file behind it is edited', async () => {
  await using folder = await testFolder();
  const [file, link] = [join(folder.path, 'real.yaml'), join(folder.path, 'lifeboat.yaml')];
  await writeFile(file, WRITTEN);
  await symlink(file, link);
  await removeDeployment(link, 'old');
  assert.equal((await readdir(folder.path)).length, 2);
  assert.doesNotMatch(await readFile(file, 'utf8'), /old:/);
});

test('a name that is taken, one that is not there, and a file with mistakes are refused and left as they are', async () => {
  await using folder = await testFolder();
  const file = join(folder.path, 'lifeboat.yaml');
  await writeFile(file, WRITTEN);
  await assert.rejects(addDeployment(file, 'shop', { uri: '${A}' }), ofKind('DeploymentExists'));
  await assert.rejects(removeDeployment(file, 'nobody'), ofKind('UnknownDeployment'));
  assert.equal(await readFile(file, 'utf8'), WRITTEN);
  await writeFile(file, 'deploymets: {}\n');
  await assert.rejects(addDeployment(file, 'a', { uri: '${A}' }), ofKind('ConfigInvalid'));
  assert.equal(await readFile(file, 'utf8'), 'deploymets: {}\n');
  assert.deepEqual(await readdir(folder.path), ['lifeboat.yaml']);
});
