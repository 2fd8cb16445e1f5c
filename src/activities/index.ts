/** The activities of one daemon, each a thin edge around a step. */
import { deleteSnapshot } from '../blockstore/delete-snapshot.ts';
import { holdSnapshot, releaseSnapshot } from '../blockstore/hold.ts';
import { readManifest } from '../blockstore/manifest.ts';
import { summaryOf } from '../blockstore/snapshots.ts';
import { fromStoredPosition } from '../mongo/positions.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';
import type { Claim, MemberClaim } from '../shared/messages.ts';
import { deploymentOfSnapshot } from '../shared/names.ts';
import { applyEntries } from '../steps/apply-entries.ts';
import { applyRetention, planRetention, type RetentionTerms } from '../steps/apply-retention.ts';
import { beginSync } from '../steps/begin-sync.ts';
import { buildHead } from '../steps/build-head.ts';
import type { StepContext } from '../steps/context.ts';
import { copySource } from '../steps/copy-source.ts';
import { finishSync } from '../steps/finish-sync.ts';
import { groom, planGroom } from '../steps/groom.ts';
import { beginPurge, planPurge, purgeRecords, purgeSnapshots, refusePurging } from '../steps/purge.ts';
import { restorePoint } from '../restore/point.ts';
import { previewRestore } from '../restore/preview.ts';
import { parseRestoreTime } from '../shared/restore-time.ts';
import { restoreDirectory } from '../steps/restore-directory.ts';
import { seedHead } from '../steps/seed-head.ts';
import { tailOplog } from '../steps/tail-oplog.ts';
import { takeSnapshot } from '../steps/take-snapshot.ts';
import { validateHead } from '../steps/validate-head.ts';
import { verifySnapshot } from '../steps/verify-snapshot.ts';
import { watchOplog } from '../steps/watch-oplog.ts';
import { claimBackup, claimDaemon, claimHead, fenceOf } from '../stores/claims.ts';
import type { Stores } from '../stores/connect.ts';
import { retireDaemon } from '../stores/daemons.ts';
import { membersOf, readMember } from '../stores/members.ts';
import type { ProgressSource } from './boards.ts';
import type { Daemon } from './daemon.ts';
import { discardIncarnation } from './discard.ts';
import { allOf, asActivity, isRetried, workflowAtHand, type EdgeObserver } from './edge.ts';
import { counting, errorLabels, labelsOf, NO_MEMBER, type MemberLabels } from './counting.ts';
import { headWhileRoutine } from './routine-head.ts';
import { claimInspection, inspect } from './inspect.ts';
import { shownProblem, writePhase } from './phases.ts';
import { isHeadWhole, prepareMember } from './prepare.ts';
import { abandonRestore, requireSnapshotOf } from './restores.ts';
import { patienceMs, takeoverTerms } from './takeover.ts';
import type { ClaimRequest, DaemonActivities, MemberWork, SharedActivities } from './types.ts';

/** What the shared task queue runs. */
export function createSharedActivities(daemon: Daemon): SharedActivities {
  const claimErrors: EdgeObserver = {
    failed: (code) => daemon.metrics.count('lifeboat_errors_total', { deployment: '', activity: 'claim', code }),
  };
  return {
    claim: (request) =>
      asActivity(
        daemon.logger,
        async (ctx) => {
          if (request.purpose === 'inspect') return claimInspection(ctx, daemon, request.deployment);
          try {
            const claim = await claimFor(daemon, await daemon.stores(), request);
            return { ...claim, patienceMs: patienceMs(await daemon.config()) };
          } catch (error) {
            throw await daemon.failureOf(error);
          }
        },
        claimErrors,
      ),
  };
}

async function claimFor(
  daemon: Daemon,
  stores: Stores,
  request: Exclude<ClaimRequest, { readonly purpose: 'inspect' }>,
): Promise<Claim> {
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
  const { id, logger, slices, metrics } = daemon;

  /** A step, with all that is noted of it whatever it is. */
  const perform = <T>(
    name: keyof DaemonActivities,
    labels: MemberLabels,
    run: (ctx: StepContext) => Promise<T>,
    ...observers: readonly EdgeObserver[]
  ): Promise<T> => {
    const sight = daemon.sights.observer(workflowAtHand(), name);
    const errors: EdgeObserver = {
      failed: (code) => metrics.count('lifeboat_errors_total', { ...errorLabels(labels), activity: name, code }),
    };
    const counted = (ctx: StepContext): Promise<T> => run({ ...ctx, count: counting(metrics, labels) });
    return asActivity(logger, counted, allOf([sight, errors, ...observers]));
  };
  /** A step of a backup: its troubles are shown in the status, and its progress if `shown` names it. */
  const ofBackup = <W extends { readonly deployment: string; readonly member?: MemberClaim | null }, T>(
    name: keyof DaemonActivities,
    run: (ctx: StepContext, work: W) => Promise<T>,
  ): ((work: W) => Promise<T>) => {
    return (work) =>
      perform(name, labelsOf(work), guarded(daemon, run, work), troublesOf(daemon, name, work.deployment));
  };
  const withProgress = <W extends MemberWork, T>(
    name: keyof DaemonActivities & ProgressSource,
    run: (ctx: StepContext, work: W) => Promise<T>,
  ): ((work: W) => Promise<T>) => {
    return (work) =>
      perform(name, labelsOf(work), guarded(daemon, run, work), troublesOf(daemon, name, work.deployment), {
        progress: (progress) => daemon.progress(work.member).report(name, progress),
        ended: () => void daemon.progress(work.member).ended(name),
      });
  };

  const mongodFor = (version: string, appliesEntries: boolean): Promise<string> =>
    appliesEntries ? daemon.headMongodFor(version) : daemon.mongodFor(version);

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
      const { exclude } = await daemon.deployment(deployment);
      await beginSync(ctx, { stores, source, fence: fenceOf(member), exclude });
    }),
    copySource: withProgress('copySource', async (ctx, { deployment, member }: MemberWork) => {
      const [stores, source] = await Promise.all([daemon.stores(), daemon.source(deployment)]);
      const slicesInFlight = async (): Promise<number> => (await daemon.config()).limits.slicesInFlight;
      const parts = { stores, source, fence: fenceOf(member), slicesInFlight, fresh: daemon.freshSlices(member.key) };
      const { finished } = await copySource(ctx, parts, { maxMs: slices.load });
      return { finished };
    }),
    buildHead: withProgress('buildHead', async (ctx, { member }: MemberWork) => {
      const stores = await daemon.stores();
      const fence = fenceOf(member);
      const head = await daemon.heads.of(stores, fence);
      return buildHead(ctx, { stores, fence, head, fresh: daemon.freshSlices(member.key) }, { maxMs: slices.load });
    }),
    tailOplog: ofBackup('tailOplog', async (ctx, { deployment, member }: MemberWork) => {
      const [stores, source] = await Promise.all([daemon.stores(), daemon.source(deployment)]);
      const watched = await daemon.deployment(deployment);
      const arrivals = daemon.arrivals(member.key);
      const parts = { stores, source, fence: fenceOf(member), arrivals, watched };
      const { through, warnings } = await tailOplog(ctx, parts, { maxMs: slices.follow });
      return { through: through?.ts ?? null, warnings: warnings?.map(shownProblem) ?? null };
    }),
    // Nothing of it is a trouble of the backup, which rests.
    watchOplog: ({ deployment, member }) =>
      asActivity(logger, async (ctx) => {
        const watched = await daemon.deployment(deployment);
        const watch = { stores: await daemon.stores(), fence: fenceOf(member), watched };
        const source = () => daemon.source(deployment);
        const warnings = await watchOplog(ctx, watch, source, { maxMs: slices.follow });
        return { warnings: warnings.map(shownProblem) };
      }),
    applyEntries: withProgress('applyEntries', async (ctx, { deployment, member, toStop }) => {
      const stores = await daemon.stores();
      const fence = fenceOf(member);
      const head = await daemon.heads.of(stores, fence);
      const { pointInTimeWindowMs: windowMs } = await daemon.deployment(deployment);
      const source = () => daemon.source(deployment);
      const parts = { stores, fence, head, source, arrivals: daemon.arrivals(member.key), windowMs };
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
    validateHead: withProgress('validateHead', async (ctx, { deployment, member }: MemberWork) => {
      const [stores, source] = await Promise.all([daemon.stores(), daemon.source(deployment)]);
      const fence = fenceOf(member);
      const head = await daemon.heads.of(stores, fence);
      return validateHead(ctx, { stores, source, fence, head }, { maxMs: slices.load });
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
      const verification = await daemon.verification(deployment);
      const parts = { stores, fence, head, deployment, member: member.member, source, daemon: id, verification };
      const summary = await takeSnapshot(ctx, parts, { minimum });
      metrics.count('lifeboat_snapshots_taken_total', { deployment, member: member.member });
      const { state: outcome } = summary.verification;
      metrics.count('lifeboat_snapshot_comparisons_total', { deployment, outcome });
      return summary;
    }),

    planRestore: ({ deployment, at }) =>
      perform('planRestore', NO_MEMBER, async (ctx) => {
        const time = at === undefined ? undefined : parseRestoreTime(at);
        return restorePoint(await daemon.stores(), deployment, time, ctx.signal);
      }),
    previewRestore: ({ deployment, path, ...point }) =>
      perform('previewRestore', NO_MEMBER, async () => {
        const { ownFolders } = daemon;
        const stores = await daemon.stores();
        await requireSnapshotOf(stores, deployment, point.snapshot);
        return previewRestore({ stores, daemon: id, point, path, mongodFor, ownFolders });
      }),
    restoreDirectory: (work) =>
      perform('restoreDirectory', labelsOf(work), async (ctx) => {
        const stores = await daemon.stores();
        await requireSnapshotOf(stores, work.deployment, work.snapshot);
        const { ownFolders } = daemon;
        const cacheGiB = await daemon.headCacheGiB();
        const summary = await restoreDirectory(ctx, { stores, daemon: id, mongodFor, cacheGiB, ownFolders }, work);
        metrics.count('lifeboat_restores_total', { deployment: work.deployment, outcome: 'done' });
        return summary;
      }),
    abandonRestore: (ending) =>
      perform('abandonRestore', labelsOf(ending), async () => {
        await abandonRestore(await daemon.stores(), { ...ending, daemon: id });
        metrics.count('lifeboat_restores_total', { deployment: ending.deployment, outcome: ending.state });
      }),
    removeSnapshot: ({ snapshot }) =>
      perform('removeSnapshot', NO_MEMBER, async () => {
        const windowMs = await windowOf(daemon, deploymentOfSnapshot(snapshot));
        try {
          await deleteSnapshot(await daemon.stores(), { snapshot, windowMs });
        } catch (error) {
          // An earlier attempt has deleted it, and its answer was lost.
          if (!isRetried() || !isLifeboatError(error, 'UnknownSnapshot')) throw error;
        }
      }),
    planRetention: ({ deployment }) =>
      perform('planRetention', NO_MEMBER, async () =>
        planRetention(await daemon.stores(), await termsOf(daemon, deployment)),
      ),
    applyRetention: ({ deployment }) =>
      perform('applyRetention', NO_MEMBER, async (ctx) =>
        applyRetention(ctx, await daemon.stores(), await termsOf(daemon, deployment)),
      ),
    holdSnapshot: ({ snapshot, reason }) =>
      perform('holdSnapshot', NO_MEMBER, async () => {
        const stores = await daemon.stores();
        await holdSnapshot(stores, snapshot, reason);
        return summaryOf(await readManifest(stores, snapshot));
      }),
    releaseSnapshot: ({ snapshot }) =>
      perform('releaseSnapshot', NO_MEMBER, async () => {
        const stores = await daemon.stores();
        await releaseSnapshot(stores, snapshot);
        return summaryOf(await readManifest(stores, snapshot));
      }),
    planGroom: () => perform('planGroom', NO_MEMBER, async (ctx) => planGroom(ctx, await daemon.stores())),
    groom: (request) => perform('groom', NO_MEMBER, async (ctx) => groom(ctx, await daemon.stores(), request)),
    planPurge: ({ deployment }) =>
      perform('planPurge', NO_MEMBER, async (ctx) => planPurge(ctx, await daemon.stores(), deployment)),
    beginPurge: (request) =>
      perform('beginPurge', NO_MEMBER, async () => ({ daemons: await beginPurge(await daemon.stores(), request) })),
    discardHeads: () => perform('discardHeads', NO_MEMBER, async () => daemon.discardHeads()),
    purgeSnapshots: (request) =>
      perform('purgeSnapshots', NO_MEMBER, async (ctx) => purgeSnapshots(ctx, await daemon.stores(), request)),
    purgeRecords: (request) =>
      perform('purgeRecords', NO_MEMBER, async (ctx) => purgeRecords(ctx, await daemon.stores(), request)),
    retireDaemon: ({ daemon: gone }) =>
      perform('retireDaemon', NO_MEMBER, async () => {
        const stores = await daemon.stores();
        const { retiredAt } = await retireDaemon(stores, gone);
        const deployments = [...new Set((await membersOf(stores, gone)).map(({ deployment }) => deployment))];
        return { id: gone, retiredAt: (retiredAt ?? new Date()).toISOString(), deployments };
      }),
    verifySnapshot: (request) =>
      perform('verifySnapshot', NO_MEMBER, async (ctx) => {
        const result = await verifySnapshot(ctx, { stores: await daemon.stores(), daemon: id }, request);
        metrics.count('lifeboat_snapshot_verifications_total', { outcome: result.ok ? 'sound' : 'damaged' });
        return result;
      }),

    observe: ({ shown, maxMs }) =>
      asActivity(logger, (ctx) => daemon.sights.next(workflowAtHand(), shown, maxMs, ctx.signal)),
    inspect: ({ deployment }) => asActivity(logger, (ctx) => inspect(ctx, daemon, deployment)),
  };
}

/** Runs a step; what it fails with is told as what it means to this daemon. */
function guarded<W extends { readonly deployment?: string }, T>(
  daemon: Daemon,
  run: (ctx: StepContext, work: W) => Promise<T>,
  work: W,
): (ctx: StepContext) => Promise<T> {
  return async (ctx) => {
    try {
      return await run(ctx, work);
    } catch (error) {
      throw await daemon.failureOf(error, work.deployment);
    }
  };
}

function troublesOf(daemon: Daemon, activity: keyof DaemonActivities, deployment: string): EdgeObserver {
  const board = daemon.troubles(deployment);
  return {
    well: () => void board.clear(activity),
    troubled: (error) => void board.raise(activity, error),
  };
}

async function termsOf(daemon: Daemon, deployment: string): Promise<RetentionTerms> {
  const { keep, pointInTimeWindowMs: windowMs } = await daemon.deployment(deployment);
  return { deployment, keep, windowMs };
}

/** Of a deployment that is not in the configuration here only what is written down of it counts. */
async function windowOf(daemon: Daemon, deployment: string | undefined): Promise<number> {
  const { deployments } = await daemon.config();
  return deployments.get(deployment ?? '')?.pointInTimeWindowMs ?? 0;
}
