/** The activities of one daemon, each a thin edge around a step. */
import { fromStoredPosition } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Claim } from '../shared/messages.ts';
import { applyEntries } from '../steps/apply-entries.ts';
import { beginSync } from '../steps/begin-sync.ts';
import { buildHead } from '../steps/build-head.ts';
import type { StepContext } from '../steps/context.ts';
import { copySource } from '../steps/copy-source.ts';
import { finishSync } from '../steps/finish-sync.ts';
import { beginPurge, planPurge, purgeRecords, purgeSnapshots, refusePurging } from '../steps/purge.ts';
import { restoreDirectory } from '../steps/restore-directory.ts';
import { seedHead } from '../steps/seed-head.ts';
import { tailOplog } from '../steps/tail-oplog.ts';
import { takeSnapshot } from '../steps/take-snapshot.ts';
import { verifySnapshot } from '../steps/verify-snapshot.ts';
import { claimBackup, claimDaemon, claimHead, fenceOf } from '../stores/claims.ts';
import type { Stores } from '../stores/connect.ts';
import { retireDaemon } from '../stores/daemons.ts';
import { membersOf, readMember } from '../stores/members.ts';
import type { ProgressSource } from './boards.ts';
import type { Daemon } from './daemon.ts';
import { discardIncarnation } from './discard.ts';
import { asActivity, type EdgeObserver } from './edge.ts';
import { headWhileRoutine } from './routine-head.ts';
import { writePhase } from './phases.ts';
import { isHeadWhole, prepareMember } from './prepare.ts';
import { abandonRestore, requireSnapshotOf } from './restores.ts';
import { patienceMs, takeoverTerms } from './takeover.ts';
import type { ClaimRequest, DaemonActivities, MemberWork, SharedActivities } from './types.ts';

/** What the shared task queue runs. */
export function createSharedActivities(daemon: Daemon): SharedActivities {
  return {
    claim: (request) =>
      asActivity(daemon.logger, async () => {
        const stores = await daemon.stores();
        const claim = await claimFor(daemon, stores, request);
        return { ...claim, patienceMs: patienceMs(await daemon.config()) };
      }),
  };
}

async function claimFor(daemon: Daemon, stores: Stores, request: ClaimRequest): Promise<Claim> {
  if (request.purpose !== 'anywhere') await refusePurging(stores, request.deployment);
  switch (request.purpose) {
    case 'backup':
      return claimBackup(stores, { ...request, claimant: daemon.id, takeover: await takeoverTerms(daemon) });
    case 'takeover': {
      const { deployment } = request;
      const terms = await takeoverTerms(daemon);
      return claimBackup(stores, { deployment, claimant: daemon.id, takeover: terms, onlyTakeover: true });
    }
    case 'head':
      return claimHead(stores, request.deployment);
    case 'anywhere':
      return claimDaemon(stores, daemon.id, request.daemon);
  }
}

/** What the daemon's own task queue runs. */
export function createDaemonActivities(daemon: Daemon): DaemonActivities {
  const { id, logger, slices } = daemon;

  /** A step of a backup: its troubles are shown in the status, and its progress if `shown` names it. */
  const ofBackup = <W extends { readonly deployment: string }, T>(
    name: keyof DaemonActivities,
    run: (ctx: StepContext, work: W) => Promise<T>,
  ): ((work: W) => Promise<T>) => {
    return (work) => asActivity(logger, (ctx) => run(ctx, work), troublesOf(daemon, name, work.deployment));
  };
  const withProgress = <W extends MemberWork, T>(
    name: keyof DaemonActivities & ProgressSource,
    run: (ctx: StepContext, work: W) => Promise<T>,
  ): ((work: W) => Promise<T>) => {
    return (work) =>
      asActivity(logger, (ctx) => run(ctx, work), {
        ...troublesOf(daemon, name, work.deployment),
        progress: (progress) => daemon.progress(work.member).report(name, progress),
        ended: () => void daemon.progress(work.member).ended(name),
      });
  };

  return {
    recordPhase: ofBackup('recordPhase', async (_ctx, change) => {
      await writePhase(await daemon.stores(), change);
    }),
    prepareMember: ofBackup('prepareMember', (ctx, work) => prepareMember(ctx, daemon, work)),
    releaseMember: ofBackup('releaseMember', async (_ctx, { deployment, member }: MemberWork) => {
      await daemon.heads.release(fenceOf(member));
      await daemon.closeSource(deployment);
    }),
    seedHead: withProgress('seedHead', async (ctx, { member }: MemberWork) => {
      const stores = await daemon.stores();
      const fence = fenceOf(member);
      if (await isHeadWhole(daemon, stores, fence)) return;
      await seedHead(ctx, { stores, fence, heads: daemon.heads, daemon: id });
    }),
    discardIncarnation: ofBackup('discardIncarnation', async (ctx, { member, incarnation }) => {
      await discardIncarnation(ctx, await daemon.stores(), fenceOf(member), incarnation);
    }),

    beginSync: ofBackup('beginSync', async (ctx, { deployment, member }: MemberWork) => {
      const [stores, source] = await Promise.all([daemon.stores(), daemon.source(deployment)]);
      await beginSync(ctx, { stores, source, fence: fenceOf(member) });
    }),
    copySource: withProgress('copySource', async (ctx, { deployment, member }: MemberWork) => {
      const [stores, source] = await Promise.all([daemon.stores(), daemon.source(deployment)]);
      const { slicesInFlight } = (await daemon.config()).limits;
      const parts = { stores, source, fence: fenceOf(member), slicesInFlight };
      const { finished } = await copySource(ctx, parts, { maxMs: slices.load });
      return { finished };
    }),
    buildHead: withProgress('buildHead', async (ctx, { member }: MemberWork) => {
      const stores = await daemon.stores();
      const fence = fenceOf(member);
      const head = await daemon.heads.of(stores, fence);
      return buildHead(ctx, { stores, fence, head }, { maxMs: slices.load });
    }),
    tailOplog: ofBackup('tailOplog', async (ctx, { deployment, member }: MemberWork) => {
      const [stores, source] = await Promise.all([daemon.stores(), daemon.source(deployment)]);
      const parts = { stores, source, fence: fenceOf(member), arrivals: daemon.arrivals(member.key) };
      const { through } = await tailOplog(ctx, parts, { maxMs: slices.follow });
      return { through: through?.ts ?? null };
    }),
    applyEntries: withProgress('applyEntries', async (ctx, { deployment, member, toStop }) => {
      const stores = await daemon.stores();
      const fence = fenceOf(member);
      const head = await daemon.heads.of(stores, fence);
      const { pointInTimeWindowMs: windowMs } = await daemon.deployment(deployment);
      const parts = { stores, fence, head, arrivals: daemon.arrivals(member.key), windowMs };
      const { sync } = await readMember(stores, fence);
      if (toStop && !sync?.stop) throw new LifeboatError('Internal', `${member.key} has no stop point yet`);
      const until = toStop && sync?.stop ? { until: fromStoredPosition(sync.stop) } : {};
      const { position, caughtUp } = await applyEntries(ctx, parts, { maxMs: slices.follow, ...until });
      return { appliedThrough: position.appliedThrough.ts, finished: caughtUp };
    }),
    finishSync: withProgress('finishSync', async (ctx, { member }: MemberWork) => {
      const stores = await daemon.stores();
      const fence = fenceOf(member);
      await finishSync(ctx, { stores, fence, head: await daemon.heads.of(stores, fence) });
    }),

    majorityOptime: ofBackup('majorityOptime', async (_ctx, { deployment }: MemberWork) => {
      const { ts } = await (await daemon.source(deployment)).majorityPosition();
      return ts;
    }),
    takeSnapshot: withProgress('takeSnapshot', async (ctx, { deployment, member, minimum, first }) => {
      const stores = await daemon.stores();
      const fence = fenceOf(member);
      const owner = await daemon.heads.of(stores, fence);
      const { source } = await readMember(stores, fence);
      const head = first ? owner : headWhileRoutine(owner, stores, deployment);
      const parts = { stores, fence, head, deployment, member: member.member, source, daemon: id };
      return takeSnapshot(ctx, parts, { minimum });
    }),

    restoreDirectory: (work) =>
      asActivity(logger, async (ctx) => {
        const stores = await daemon.stores();
        await requireSnapshotOf(stores, work.deployment, work.snapshot);
        const mongodFor = (version: string): Promise<string> => daemon.mongodFor(version);
        return restoreDirectory(ctx, { stores, daemon: id, mongodFor }, work);
      }),
    abandonRestore: (ending) =>
      asActivity(logger, async () => abandonRestore(await daemon.stores(), { ...ending, daemon: id })),
    verifySnapshot: (request) =>
      asActivity(logger, async (ctx) => verifySnapshot(ctx, { stores: await daemon.stores(), daemon: id }, request)),
    planPurge: ({ deployment }) => asActivity(logger, async (ctx) => planPurge(ctx, await daemon.stores(), deployment)),
    beginPurge: (request) =>
      asActivity(logger, async () => ({ daemons: await beginPurge(await daemon.stores(), request) })),
    discardHeads: () => asActivity(logger, async () => daemon.discardHeads()),
    purgeSnapshots: (request) => asActivity(logger, async (ctx) => purgeSnapshots(ctx, await daemon.stores(), request)),
    purgeRecords: (request) => asActivity(logger, async (ctx) => purgeRecords(ctx, await daemon.stores(), request)),
    retireDaemon: ({ daemon: gone }) =>
      asActivity(logger, async () => {
        const stores = await daemon.stores();
        const { retiredAt } = await retireDaemon(stores, gone);
        const deployments = [...new Set((await membersOf(stores, gone)).map(({ deployment }) => deployment))];
        return { id: gone, retiredAt: (retiredAt ?? new Date()).toISOString(), deployments };
      }),
  };
}

function troublesOf(daemon: Daemon, activity: keyof DaemonActivities, deployment: string): EdgeObserver {
  const board = daemon.troubles(deployment);
  return {
    progress: () => undefined,
    well: () => void board.clear(activity),
    troubled: (error) => void board.raise(activity, error),
    ended: () => undefined,
  };
}
