/** Whatever a deployment does before, in and after an initial sync, the head equals it in the end, byte for byte. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findBinary } from '../src/embedded/binaries.ts';
import { mongodOf, OTHER_VERSIONS, type OtherVersion } from './support/mongods.ts';
import { catalogScenarios } from './support/scenarios/catalog.ts';
import { clientApplyOps } from './support/scenarios/client-apply-ops.ts';
import { documentScenarios } from './support/scenarios/documents.ts';
import { indexScenarios } from './support/scenarios/indexes.ts';
import { kindScenarios } from './support/scenarios/kinds.ts';
import { runScenarios, type Outcome } from './support/scenarios/run.ts';
import type { Scenario } from './support/scenarios/scenario.ts';
import { transactionScenarios } from './support/scenarios/transactions.ts';

/** Only those whose keys match, to look into one. */
const ONLY = new RegExp(process.env['LIFEBOAT_TEST_SCENARIOS'] ?? '');

const ALL: readonly Scenario[] = [
  ...documentScenarios,
  ...transactionScenarios,
  ...catalogScenarios,
  ...indexScenarios,
  ...kindScenarios,
];
const SCENARIOS = ALL.filter(({ key }) => ONLY.test(key));

for (const version of [null, ...OTHER_VERSIONS]) {
  const what = version ?? 'that other tests run';
  test(
    `all of these end equal on a mongod ${what}`,
    { skip: version !== null && (await missing(version)) },
    async (t) => {
      const outcome = await runScenarios(await binaryOf(version), SCENARIOS, (line) => t.diagnostic(line));
      for (const { key, promise } of SCENARIOS) {
        const found = outcome.of.get(key);
        await t.test(promise, { skip: found ? false : 'this version cannot do it' }, () => assert.deepEqual(found, []));
      }
      await t.test('and everything else', () => assert.deepEqual(outcome.of.get(''), []));
      if (ONLY.source === '(?:)') await t.test('every kind of entry was among them', () => assertComplete(outcome));
    },
  );
}

for (const version of [null, ...OTHER_VERSIONS]) {
  test(
    `what a client does by applyOps ends equal: mongod ${version ?? 'that other tests run'}`,
    { skip: version !== null && (await missing(version)) },
    async (t) => {
      const { of } = await runScenarios(await binaryOf(version), clientApplyOps, (line) => t.diagnostic(line));
      for (const { key, promise } of clientApplyOps) await t.test(promise, () => assert.deepEqual(of.get(key), []));
      await t.test('and everything else', () => assert.deepEqual(of.get(''), []));
    },
  );
}

const KINDS = [
  ...['i', 'd', 'n', 'replacement', 'create', 'drop', 'dropDatabase', 'renameCollection', 'collMod', 'emptycapped'],
  ...['createIndexes', 'dropIndexes', 'startIndexBuild', 'commitIndexBuild', 'abortIndexBuild'],
  ...['applyOps', 'partialTxn', 'prepare', 'commitTransaction', 'abortTransaction'],
];

/** Scenarios that no longer do what they are there for are no test. */
function assertComplete({ kinds, major }: Outcome): void {
  const wanted = [...KINDS, ...(major < 5 ? ['$v:1'] : ['$v:2', 'needsRetryImage'])];
  assert.deepEqual(
    wanted.filter((kind) => !kinds.has(kind)),
    [],
  );
}

async function missing(version: OtherVersion): Promise<string | false> {
  const found = await mongodOf(version);
  return 'missing' in found ? found.missing : false;
}

async function binaryOf(version: OtherVersion | null): Promise<string> {
  if (version === null) return findBinary('mongod');
  const found = await mongodOf(version);
  if ('missing' in found) throw new Error(found.missing);
  return found.path;
}
