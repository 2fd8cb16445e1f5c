/** `lifeboat restore`: a snapshot, or any moment that entries lead to, brought back. */
import { hostname } from 'node:os';
import { isAbsolute, resolve } from 'node:path';
import { errorNameOf, LifeboatError } from '../../shared/errors.ts';
import type { RestoreInput, RestorePreview, RestoreSummary, SnapshotVerification } from '../../shared/messages.ts';
import { refuseUnrestorable } from '../../restore/point.ts';
import { parseRestoreTime } from '../../shared/restore-time.ts';
import { readStatus } from '../../status/backup-status.ts';
import { TASK_QUEUE, workflowIdOf } from '../../shared/names.ts';
import type { Stores } from '../../stores/connect.ts';
import { DAEMON_LOST_MS, findDaemon } from '../../stores/daemons.ts';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import { withStores } from '../stores.ts';
import { promptly, withTemporal } from '../temporal.ts';
import { bytes, duration, fields, optime } from '../text.ts';
import { uniqueId, type WaitFlags } from '../work.ts';
import { deploymentAttribute } from './backup.ts';
import { runWork } from './run-work.ts';
import { settle } from './settle.ts';
import { existingSnapshot } from './snapshots.ts';

export interface RestoreFlags extends WaitFlags {
  readonly snapshot?: string | undefined;
  readonly at?: string | undefined;
  readonly latest?: true | undefined;
  readonly to: string;
  readonly include?: readonly string[] | undefined;
  readonly daemon?: string | undefined;
  readonly dryRun?: true | undefined;
  readonly hosts?: string | undefined;
  readonly member?: string | undefined;
}

export async function restore(context: CliContext, name: string, flags: RestoreFlags): Promise<Outcome> {
  const from = chosenMoment(flags);
  const path = directoryOf(flags.to);
  const verification = 'snapshot' in from ? await verificationOf(context, name, from.snapshot) : undefined;
  if (!verification) {
    const { restorable } = await withStores(context, (stores) => readStatus(stores, name));
    if ('at' in from) refuseUnrestorable(name, parseRestoreTime(from.at), restorable);
  }
  const daemon = isAbsolute(path)
    ? await knownDaemon(context, flags.daemon)
    : await daemonHere(context, path, flags.daemon);
  const input: RestoreInput = {
    deployment: name,
    ...from,
    to: `dir:${resolve(context.cwd, path)}`,
    ...(daemon === undefined ? {} : { daemon }),
  };
  if (flags.dryRun) return preview(context, name, input, flags);
  const id = uniqueId();
  return withTemporal(context, async (temporal) => {
    const handle = await promptly(temporal, () =>
      temporal.client.workflow.start('restore', {
        workflowId: workflowIdOf('restore', name, id),
        taskQueue: TASK_QUEUE,
        args: [input],
        typedSearchAttributes: deploymentAttribute(name),
        staticSummary: `Restore of ${name}`,
      }),
    );
    const ids = { workflowId: handle.workflowId, runId: handle.firstExecutionRunId, id };
    return settle<RestoreSummary>({
      context,
      temporal,
      handle,
      ids,
      flags,
      what: `the restore of ${name}`,
      hint: `see \`lifeboat restores show ${id}\``,
      outcome: (summary) => ({ result: summary, text: restoredText(summary, verification) }),
    });
  });
}

/** What would be done, and what would stop it: with something in the way the command fails. */
async function preview(
  context: CliContext,
  name: string,
  input: RestoreInput,
  { timeout }: RestoreFlags,
): Promise<Outcome> {
  return runWork<RestorePreview>(context, {
    type: 'restore',
    deployment: name,
    input: { ...input, dryRun: true } satisfies RestoreInput,
    summary: `Plan of a restore of ${name}`,
    // The plan is the answer.
    flags: { wait: true, timeout },
    what: `the plan of a restore of ${name}`,
    outcome: (result) => {
      const [first] = result.problems;
      const error = first && new LifeboatError(errorNameOf(first.code) ?? 'Internal', first.message);
      return { result, text: previewText(result), error };
    },
  });
}

function previewText(plan: RestorePreview): string {
  const { neededBytes, freeBytes, estimatedMs, problems, mongodVersion, featureCompatibilityVersion } = plan;
  return fields([
    ['would restore', `snapshot ${plan.snapshot}: ${plan.blocks} blocks, ${bytes(plan.bytes)}`],
    [
      'and replay',
      plan.entriesToReplay > 0 ? `${plan.entriesToReplay} oplog entries, ${bytes(plan.entryBytes)}` : null,
    ],
    ['optime', optime(plan.optime)],
    ['destination', `${plan.destination} of daemon ${plan.daemon}`],
    ['disk', `${freeBytes === null ? 'unknown' : bytes(freeBytes)} free, ${bytes(neededBytes)} needed at most`],
    ['files of', `mongod ${mongodVersion}, feature compatibility version ${featureCompatibilityVersion}`],
    [
      'takes about',
      estimatedMs === null ? 'unknown: no restore like it was done by that daemon yet' : duration(estimatedMs),
    ],
    ...problems.flatMap(({ code, message, fix }): [string, string][] => [
      ['in the way', `${code} ${message}`],
      ['what to do', fix],
    ]),
  ]);
}

/** @throws LifeboatError `UnknownSnapshot` */
async function verificationOf(context: CliContext, name: string, snapshot: string): Promise<SnapshotVerification> {
  const { deployment, verification } = await existingSnapshot(context, snapshot);
  if (deployment === name) return verification;
  throw new LifeboatError('UnknownSnapshot', `${snapshot} is a snapshot of ${deployment}, not of ${name}`);
}

type Chosen = { readonly snapshot: string } | { readonly at: string } | { readonly latest: true };

/** @throws LifeboatError `BadUsage`, `BadTime`, `NotBuiltYet` */
function chosenMoment(flags: RestoreFlags): Chosen {
  const chosen = [flags.snapshot, flags.at, flags.latest].filter((value) => value !== undefined);
  if (chosen.length !== 1) {
    throw new LifeboatError('BadUsage', 'restore needs exactly one of --snapshot ID, --at TIME and --latest');
  }
  const refused = [
    [flags.include, '--include'],
    [flags.hosts, '--hosts'],
    [flags.member, '--member'],
  ] as const;
  for (const [value, flag] of refused) {
    if (value !== undefined) throw new LifeboatError('NotBuiltYet', `restore ${flag} is not built yet`);
  }
  if (flags.snapshot !== undefined) return { snapshot: flags.snapshot };
  if (flags.at === undefined) return { latest: true };
  parseRestoreTime(flags.at);
  return { at: flags.at };
}

/** @throws LifeboatError `BadUsage`, `NotBuiltYet` */
function directoryOf(destination: string): string {
  const [, kind, rest] = /^(dir|archive|deployment):(.*)$/s.exec(destination) ?? [];
  if (kind === undefined || rest === undefined || rest === '') {
    throw new LifeboatError('BadUsage', '--to must be dir:PATH, archive:FILE or deployment:NAME');
  }
  if (kind !== 'dir') throw new LifeboatError('NotBuiltYet', `a restore to ${kind}: is not built yet; dir:PATH is`);
  return rest;
}

async function knownDaemon(context: CliContext, daemon: string | undefined): Promise<string | undefined> {
  if (daemon !== undefined) await withStores(context, (stores) => findDaemon(stores, daemon));
  return daemon;
}

/**
 * A daemon of this machine: a relative path means a folder here, and work may go to any daemon otherwise.
 * @throws LifeboatError `BadUsage` when the daemon is elsewhere, `DaemonUnknown` when there is none
 */
async function daemonHere(context: CliContext, path: string, requested: string | undefined): Promise<string> {
  const here = hostname();
  if (requested !== undefined) {
    const { host } = await withStores(context, (stores) => findDaemon(stores, requested));
    if (host === here) return requested;
    throw new LifeboatError(
      'BadUsage',
      `"${path}" is relative, and daemon ${requested} runs on ${host}: write an absolute path`,
    );
  }
  const daemons = await withStores(context, runningDaemons);
  const near = daemons.find(({ host }) => host === here);
  if (near) return near._id;
  if (daemons.length === 0) {
    throw new LifeboatError(
      'DaemonUnknown',
      `"${path}" is relative, and no worker runs that could say where: start one, or write an absolute path`,
    );
  }
  throw new LifeboatError(
    'BadUsage',
    `"${path}" is relative, and no worker runs on this machine: write an absolute path`,
  );
}

async function runningDaemons(stores: Stores): Promise<readonly { readonly _id: string; readonly host: string }[]> {
  const now = await stores.now();
  return stores.daemons
    .find({ seenAt: { $gt: new Date(now.getTime() - DAEMON_LOST_MS) } })
    .sort({ seenAt: -1 })
    .toArray();
}

function restoredText(summary: RestoreSummary, verification: SnapshotVerification | undefined): string {
  return fields([
    ['restore', summary.id],
    ['destination', summary.destination],
    ['optime', optime(summary.optime)],
    ['size', bytes(summary.bytes)],
    ['replayed', summary.entriesReplayed > 0 ? `${summary.entriesReplayed} oplog entries` : null],
    ['verified', summary.verified ? 'yes: hashes, a started mongod, validate of every collection' : 'NO'],
    [
      'NOT EQUAL',
      verification?.state === 'different'
        ? `the snapshot was found to differ from the source: ${verification.different.join(', ')}`
        : null,
    ],
    ['took', duration(summary.durationMs)],
  ]);
}
