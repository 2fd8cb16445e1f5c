/** `lifeboat doctor`: everything that a backup needs, looked at by the daemon that does the work, or else from here. */
import { setTimeout as delay } from 'node:timers/promises';
import { styleText } from 'node:util';
import type { Config } from '../../config/schema.ts';
import { deploymentUri, unknownDeployment } from '../../config/uris.ts';
import { checkStores } from '../../preflight/blockstore.ts';
import { checkDeployment, withoutMachine, withoutSource } from '../../preflight/deployment.ts';
import { checkOf, passed, refused, warned, type Finding } from '../../preflight/finding.ts';
import { inTime } from '../../preflight/in-time.ts';
import { errorKind, LifeboatError } from '../../shared/errors.ts';
import {
  CHECK_NAMES,
  type Check,
  type DoctorAnswer,
  type DoctorInput,
  type Inspection,
} from '../../shared/messages.ts';
import { missingSearchAttributes, TASK_QUEUE, workflowIdOf } from '../../shared/names.ts';
import { openSource } from '../../source/connect.ts';
import { DAEMON_LOST_MS, listDaemons } from '../../stores/daemons.ts';
import { openStores } from '../../stores/connect.ts';
import type { DaemonRecord } from '../../stores/records.ts';
import type { CliContext } from '../context.ts';
import { asLifeboatError, errorFrom, type Outcome } from '../outcome.ts';
import { storeUris } from '../stores.ts';
import { promptly, withTemporal, type Temporal } from '../temporal.ts';
import { duration } from '../text.ts';
import { uniqueId } from '../work.ts';
import { deploymentAttribute } from './backup.ts';

/** All of it, in milliseconds; a command that takes a minute has told nothing for too long. */
const BUDGET_MS = 55_000;
/** How long a worker has to take the question up, and to answer it. */
const TAKE_UP_MS = 8_000;
const ANSWER_MS = 36_000;
/** How long the stores may take from here. */
const STORES_MS = 25_000;
const POLL_MS = 300;

/** @throws LifeboatError `UnknownDeployment`; everything else that is wrong is a result */
export async function examine(context: CliContext, name: string | undefined): Promise<Outcome> {
  const deadline = performance.now() + BUDGET_MS;
  const { config, check } = await checkConfiguration(context);
  if (name !== undefined && config && !config.deployments.has(name)) throw unknownDeployment(config, name);
  const names = name === undefined ? [...(config?.deployments.keys() ?? [])] : [name];
  const asked = name === undefined && names.length === 0 ? [null] : names;
  const [temporal, fromHere] = await Promise.all([askDaemons(context, asked), checkFromHere(context, name)]);
  const inspected = temporal.answers.flatMap(({ answer }) => answer?.inspection ?? []);
  const ofDeployments = await Promise.all(
    (config ? names : []).map(async (each) => {
      const answer = temporal.answers.find(({ deployment }) => deployment === each)?.answer;
      if (answer?.inspection) return ofDeployment(answer.inspection);
      const why = answer ? `daemon ${answer.daemon} does not answer` : 'no worker answers';
      return deploymentFromHere(context, config as Config, each, why, deadline);
    }),
  );
  const checks = [
    checkOf(check, null),
    checkOf(temporal.check, null),
    ...blockstoreChecks(inspected, fromHere.blockstore),
    ...daemonChecks(temporal, inspected).map((finding) => checkOf(finding, null)),
    ...fromHere.daemons.map((finding) => checkOf(finding, null)),
    ...ofDeployments.flat().toSorted(inOrder),
  ];
  return outcomeOf(checks);
}

async function checkConfiguration(
  context: CliContext,
): Promise<{ readonly config: Config | undefined; readonly check: Finding }> {
  try {
    const config = await context.config();
    const count = config.deployments.size;
    const told = `${config.file}: ${count === 1 ? '1 deployment' : `${count} deployments`}`;
    return { config, check: passed('configuration', told) };
  } catch (error) {
    return { config: undefined, check: refused('configuration', asLifeboatError(error)) };
  }
}

interface Asked {
  readonly check: Finding;
  readonly answers: readonly { readonly deployment: string | null; readonly answer: DoctorAnswer | undefined }[];
}

/** Asks for each deployment the daemon that does its work. Undefined as an answer: no worker took the question up. */
async function askDaemons(context: CliContext, deployments: readonly (string | null)[]): Promise<Asked> {
  try {
    return await withTemporal(context, async (temporal) => {
      await requireSearchAttributes(temporal);
      const { address, namespace, why } = temporal.target;
      const answers = await Promise.all(
        deployments.map(async (deployment) => ({ deployment, answer: await ask(temporal, deployment) })),
      );
      return { check: passed('temporal', `${address}, namespace ${namespace} (${why})`), answers };
    });
  } catch (error) {
    return { check: refused('temporal', asLifeboatError(error)), answers: [] };
  }
}

async function requireSearchAttributes(temporal: Temporal): Promise<void> {
  const { connection, target } = temporal;
  const { customAttributes } = await promptly(temporal, () =>
    connection.operatorService.listSearchAttributes({ namespace: target.namespace }),
  );
  const missing = missingSearchAttributes(customAttributes);
  if (missing.length === 0) return;
  const message = `the namespace ${target.namespace} has no search attribute ${missing.join(', ')} of type Keyword`;
  throw new LifeboatError('SearchAttributesMissing', message);
}

async function ask(temporal: Temporal, deployment: string | null): Promise<DoctorAnswer | undefined> {
  const input: DoctorInput = deployment === null ? {} : { deployment };
  const handle = await promptly(temporal, () =>
    temporal.client.workflow.start('doctor', {
      workflowId: workflowIdOf('doctor', deployment ?? 'all', uniqueId()),
      taskQueue: TASK_QUEUE,
      args: [input],
      workflowExecutionTimeout: TAKE_UP_MS + ANSWER_MS,
      ...(deployment === null ? {} : { typedSearchAttributes: deploymentAttribute(deployment) }),
    }),
  );
  const over = new AbortController();
  const ended = (handle.result() as Promise<DoctorAnswer>).catch(() => undefined);
  const given = Promise.race([ended, delay(TAKE_UP_MS + ANSWER_MS, undefined, { signal: over.signal })]);
  given.catch(() => undefined);
  try {
    return (await takenUp(temporal, () => handle.describe())) ? await given : undefined;
  } finally {
    over.abort();
    // One that was not answered is of no use to anybody any more; one that was has ended.
    void handle.terminate('nobody waits for it').catch(() => undefined);
  }
}

/** Whether a worker has begun with it: then there is more in its history than that it was started. */
async function takenUp(
  temporal: Temporal,
  describe: () => Promise<{ readonly historyLength: number }>,
): Promise<boolean> {
  const deadline = performance.now() + TAKE_UP_MS;
  const STARTED = 2;
  while ((await promptly(temporal, describe)).historyLength <= STARTED) {
    if (performance.now() > deadline) return false;
    await delay(POLL_MS);
  }
  return true;
}

interface FromHere {
  readonly blockstore: Finding;
  /** Daemons that have not been heard of for long. */
  readonly daemons: readonly Finding[];
}

async function checkFromHere(context: CliContext, name: string | undefined): Promise<FromHere> {
  const { signal } = new AbortController();
  const look = { what: 'looking at the stores', side: 'store', limit: STORES_MS, signal } as const;
  const found = await inTime(look, async (limited) => {
    const stores = await openStores(await storeUris(context), 'lifeboat doctor');
    try {
      const blockstore = await checkStores(stores, undefined, false, limited);
      const daemons = name === undefined ? silentDaemons(await stores.now(), await listDaemons(stores)) : [];
      return { blockstore, daemons };
    } finally {
      await stores.close();
    }
  });
  return 'value' in found ? found.value : { blockstore: refused('blockstore', found.error), daemons: [] };
}

function silentDaemons(now: Date, daemons: readonly DaemonRecord[]): Finding[] {
  return daemons.flatMap(({ _id, host, seenAt }) => {
    const silent = now.getTime() - seenAt.getTime();
    if (silent <= DAEMON_LOST_MS) return [];
    return [
      warned('daemon', new LifeboatError('NoWorker', `daemon ${_id} on ${host} is silent for ${duration(silent)}`)),
    ];
  });
}

/** The word of the daemons, which write to the stores; without one, what is seen from here. */
function blockstoreChecks(inspected: readonly Inspection[], fromHere: Finding): Check[] {
  const told = inspected.flatMap(({ checks }) => checks.filter(({ name }) => name === 'blockstore'));
  if (told.length === 0) return [checkOf(fromHere, null)];
  const bad = told.filter(({ level }) => level !== 'passed');
  return bad.length > 0 ? distinct(bad) : told.slice(0, 1);
}

function distinct(checks: readonly Check[]): Check[] {
  return [...new Map(checks.map((check) => [`${check.code} ${check.detail}`, check])).values()];
}

function daemonChecks({ check, answers }: Asked, inspected: readonly Inspection[]): Finding[] {
  const answering = new Map(inspected.map(({ daemon, host }) => [daemon, host]));
  const silent = new Set(answers.flatMap(({ answer }) => (answer && !answer.inspection ? [answer.daemon] : [])));
  const findings = [
    ...[...answering].map(([daemon, host]) => passed('daemon', `${daemon} on ${host} answers`)),
    ...[...silent].map((daemon) => noWorker(`daemon ${daemon}, which owns the head, does not answer`)),
  ];
  if (findings.length > 0) return findings;
  return [noWorker(check.level === 'passed' ? 'no worker takes work up' : 'without Temporal no worker can be asked')];
}

function noWorker(message: string): Finding {
  return refused('daemon', new LifeboatError('NoWorker', message));
}

function ofDeployment({ checks }: Inspection): Check[] {
  return checks.filter(({ name }) => name !== 'blockstore');
}

/** What can be told without the daemon's machine, and what cannot. */
async function deploymentFromHere(
  { env }: CliContext,
  config: Config,
  name: string,
  why: string,
  deadline: number,
): Promise<Check[]> {
  const wishes = config.deployments.get(name);
  if (!wishes) throw unknownDeployment(config, name);
  const { signal } = new AbortController();
  const limit = Math.max(5_000, deadline - performance.now());
  const found = await inTime({ what: `looking at ${name}`, side: 'source', limit, signal }, async (limited) => {
    const source = await openSource({ name, uri: await deploymentUri(config, name, env), readFrom: wishes.readFrom });
    try {
      return await checkDeployment({ source, wishes, machine: undefined, begun: false }, limited);
    } finally {
      await source.close();
    }
  });
  const findings = 'value' in found ? found.value : withoutSource(found.error, wishes, false);
  return [...findings, ...withoutMachine(`${why}: this can be seen on its machine only`)].map((finding) =>
    checkOf(finding, name),
  );
}

function inOrder(a: Check, b: Check): number {
  const byName = (a.deployment ?? '').localeCompare(b.deployment ?? '');
  return byName === 0 ? CHECK_NAMES.indexOf(a.name) - CHECK_NAMES.indexOf(b.name) : byName;
}

function outcomeOf(checks: readonly Check[]): Outcome {
  return { result: { checks }, text: checksText(checks), error: errorOf(checks) };
}

/** What the first check failed with; what could not be looked at is the fault of one that failed, if there is one. */
function errorOf(checks: readonly Check[]): LifeboatError | undefined {
  const bad = checks.filter(({ ok }) => !ok);
  const first = bad.find(({ level }) => level === 'failed') ?? bad.find(({ code }) => code !== null) ?? bad[0];
  if (!first) return undefined;
  const about = first.deployment === null ? first.name : `${first.name} of ${first.deployment}`;
  return errorFrom(first.code ?? errorKind('NoWorker').code, `${about}: ${first.detail}`);
}

const MARKS = {
  passed: ['✓', 'green'],
  warning: ['!', 'yellow'],
  failed: ['✗', 'red'],
  unknown: ['?', 'yellow'],
} as const satisfies Record<Check['level'], readonly [string, string]>;

/** A line for each check, and below those that are not well what to do. */
export function checksText(checks: readonly Check[]): string {
  const titles = checks.map(({ name, deployment }) => (deployment === null ? name : `${deployment}: ${name}`));
  const width = Math.max(...titles.map(({ length }) => length));
  return checks
    .flatMap(({ level, detail, fix, code }, n) => {
      const [mark, color] = MARKS[level];
      const shown = styleText(color, mark, { stream: process.stdout });
      const line = `${shown} ${(titles[n] ?? '').padEnd(width)}  ${detail}`;
      const remedy = [code, fix].filter((part) => part !== null).join(': ');
      return level === 'passed' || remedy === '' ? [line] : [line, `${' '.repeat(width + 4)}${remedy}`];
    })
    .join('\n');
}
