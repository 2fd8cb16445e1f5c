/** `lifeboat restore`: a snapshot, or any moment that entries lead to, brought back. */
import { hostname } from 'node:os';
import { isAbsolute, resolve } from 'node:path';
import { LifeboatError } from '../../shared/errors.ts';
import type { RestoreInput, RestoreSummary, SnapshotVerification } from '../../shared/messages.ts';
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
  if (!verification) await withStores(context, (stores) => readStatus(stores, name));
  const daemon = isAbsolute(path)
    ? await knownDaemon(context, flags.daemon)
    : await daemonHere(context, path, flags.daemon);
  const input: RestoreInput = {
    deployment: name,
    ...from,
    to: `dir:${resolve(context.cwd, path)}`,
    ...(daemon === undefined ? {} : { daemon }),
  };
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

/** @throws LifeboatError `UnknownSnapshot` */
async function verificationOf(context: CliContext, name: string, snapshot: string): Promise<SnapshotVerification> {
  const { deployment, verification } = await existingSnapshot(context, snapshot);
  if (deployment === name) return verification;
  throw new LifeboatError('UnknownSnapshot', `${snapshot} is a snapshot of ${deployment}, not of ${name}`);
}

/** @throws LifeboatError `BadUsage`, `BadTime`, `NotBuiltYet` */
function chosenMoment(flags: RestoreFlags): Pick<RestoreInput, 'at' | 'latest'> | { readonly snapshot: string } {
  const chosen = [flags.snapshot, flags.at, flags.latest].filter((value) => value !== undefined);
  if (chosen.length !== 1) {
    throw new LifeboatError('BadUsage', 'restore needs exactly one of --snapshot ID, --at TIME and --latest');
  }
  const refused = [
    [flags.include, '--include'],
    [flags.dryRun, '--dry-run'],
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
