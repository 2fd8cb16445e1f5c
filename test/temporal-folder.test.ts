/** What `temporal/` gives to operators, tried as they would. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { findBinary } from '../src/embedded/binaries.ts';
import { TASK_QUEUE } from '../src/shared/names.ts';
import * as workflows from '../src/workflows/index.ts';
import * as notBuiltYet from '../src/workflows/not-built-yet.ts';
import { startTestTemporal } from './support/temporal.ts';

const FOLDER = fileURLToPath(new URL('../temporal/', import.meta.url));
const run = promisify(execFile);

async function startLines(): Promise<string[]> {
  const text = await readFile(join(FOLDER, 'README.md'), 'utf8');
  return text.split('\n').filter((line) => line.startsWith('temporal workflow start '));
}

test('the README has one ready start line for each workflow that is built, and each starts it with its one JSON object', async () => {
  await using temporal = await startTestTemporal();
  const path = `${dirname(await findBinary('temporal'))}${delimiter}${process.env['PATH'] ?? ''}`;
  const lines = await startLines();
  const started: string[] = [];
  for (const line of lines) {
    await run('sh', ['-c', line], { env: { ...process.env, ...temporal.env, PATH: path } });
    const id = /--workflow-id (\S+)/.exec(line)?.[1] ?? '';
    const handle = temporal.client.workflow.getHandle(id);
    const { type, taskQueue } = await handle.describe();
    assert.equal(taskQueue, TASK_QUEUE);
    const { events } = await handle.fetchHistory();
    const [input, ...more] = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
    assert.deepEqual(more, []);
    const given: unknown = JSON.parse(Buffer.from(input?.data ?? []).toString());
    const stored: unknown = JSON.parse(await readFile(join(FOLDER, 'inputs', `${type}.json`), 'utf8'));
    assert.deepEqual(stored, given);
    started.push(type);
  }
  const built = Object.keys(workflows).filter((type) => !(type in notBuiltYet));
  assert.deepEqual(started.toSorted(), built.toSorted());
  assert.deepEqual((await readdir(join(FOLDER, 'inputs'))).length, started.length);
});

test('the compose file names every service and volume that it refers to, and publishes loopback ports only', async () => {
  const compose = parse(await readFile(join(FOLDER, 'docker-compose.yml'), 'utf8'), { merge: true }) as {
    services: Record<string, { depends_on?: object; ports?: string[]; volumes?: string[] }>;
    volumes: object;
  };
  for (const [name, service] of Object.entries(compose.services)) {
    for (const other of Object.keys(service.depends_on ?? {}))
      assert.ok(other in compose.services, `${name}: ${other}`);
    for (const port of service.ports ?? []) assert.match(port, /^127\.0\.0\.1:/);
    for (const volume of service.volumes ?? []) {
      const source = volume.split(':')[0] ?? '';
      assert.ok(source.startsWith('./') || source in compose.volumes, `${name}: ${volume}`);
    }
  }
});
