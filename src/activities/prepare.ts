/** The checks before a backup runs: each thing that can be wrong is told by its own name, before anything is written. */
import { ObjectId } from 'mongodb';
import { IS_SNAPSHOT } from '../blockstore/manifest.ts';
import { castDriverError } from '../mongo/errors.ts';
import { checkStores } from '../preflight/blockstore.ts';
import { checkDeployment } from '../preflight/deployment.ts';
import type { Finding } from '../preflight/finding.ts';
import { errorKind, isLifeboatError, LifeboatError, type ErrorName } from '../shared/errors.ts';
import type { MemberClaim } from '../shared/messages.ts';
import { requireRecordedSet, type Source } from '../source/connect.ts';
import { createMember, fenceOf } from '../stores/claims.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, updateMember, type MemberFence } from '../stores/members.ts';
import { refusePurging } from '../steps/purge.ts';
import { entriesGoOnFrom, seedsOf } from '../steps/seed-head.ts';
import type { MemberRecord } from '../stores/records.ts';
import { planUnbuilt } from '../syncstore/plan.ts';
import { giveUpFindings } from '../validation/log.ts';
import { writeJudgement } from '../stores/warnings.ts';
import type { StepContext } from '../steps/context.ts';
import type { Daemon } from './daemon.ts';
import type { Prepared, SyncStage } from './types.ts';
import { shownProblem } from './phases.ts';

/** What the checks before a run may warn of. */
const JUDGED: readonly ErrorName[] = [
  'SourceNotReady',
  'MemberNotHealthy',
  'OplogWindowTooShort',
  'StoreFull',
  'VersionUnverified',
  'DiskTooSmall',
  'OpenFilesTooFew',
];

/**
 * Makes ready what a run of the lifecycle needs: source, stores, the member's record and its head. The checks are those
 * of `lifeboat doctor`; nothing is written before they are passed. What they warn of is noted with the member.
 * @throws LifeboatError what openSource throws; that of the first check that failed; `WrongReplicaSet`, `HeadForeign`,
 *   `HeadMissing`, `FenceLost`
 */
export async function prepareMember(
  ctx: StepContext,
  daemon: Daemon,
  { deployment, member }: { readonly deployment: string; readonly member: MemberClaim | null },
): Promise<Prepared> {
  const stores = await daemon.stores();
  // What ailed the source when it was last opened may be mended now, or new.
  await daemon.closeSource(deployment);
  const source = await daemon.source(deployment);
  await refusePurging(stores, deployment);
  const known = member && (await readMember(stores, fenceOf(member)));
  const warnings = await preflight(ctx, daemon, { stores, source, begun: Boolean(known?.sync) });
  ctx.signal.throwIfAborted();
  const identity = recorded(source);
  const claim =
    member ?? (await createMember(stores, { deployment, source: identity, daemon: daemon.id, phase: 'initial-sync' }));
  const fence = fenceOf(claim);
  const record = await readMember(stores, fence);
  // Before its initial sync has begun, a backup is of whatever set its URI reaches.
  if (record.sync) requireRecordedSet(source, record.source);
  await updateMember(stores, fence, { source: identity });
  const whole = await isHeadWhole(daemon, stores, fence);
  const unbuilt = record.sync?.stage === 'built' && !(whole && isOfThisDaemon(record));
  if (unbuilt) await buildOnceMore(ctx, daemon, stores, fence);
  const stage = unbuilt ? 'sync' : await stageOf(stores, fence, record);
  const seed = stage !== 'sync' && !whole;
  if (seed) await requireSeed(stores, record, daemon.id);
  const judged = JUDGED.map((name) => errorKind(name).code);
  const noted = await writeJudgement(stores, fence, { judged, found: warnings });
  return { member: claim, stage, seed, warnings: noted.map(shownProblem) };
}

/**
 * Whether the head that was built is this daemon's: a claim that moves forgets what was told of a head. One that a daemon
 * has from an earlier claim is whole too, but is not the one that was validated in part.
 */
function isOfThisDaemon({ head }: MemberRecord): boolean {
  return head !== null;
}

/**
 * Sets an initial sync back to building its head: until that is validated all slices and entries are there, and no
 * snapshot is. The plan goes last, so that what is cut short is done again.
 */
async function buildOnceMore(ctx: StepContext, daemon: Daemon, stores: Stores, fence: MemberFence): Promise<void> {
  await daemon.heads.remove(stores, fence);
  try {
    await giveUpFindings(stores, fence.incarnation);
  } catch (error) {
    throw castDriverError(error, 'store', `giving up the validation of ${fence.key}`);
  }
  await planUnbuilt(stores, fence);
  ctx.logger.warn(
    { head: fence.key },
    'the head is gone before it was validated; it is built once more from its slices',
  );
}

/** @throws LifeboatError `HeadMissing`, with the reason, when a head that is gone can be made of nothing */
async function requireSeed(stores: Stores, record: MemberRecord, daemon: string): Promise<void> {
  const seeds = await seedsOf(stores, record);
  if ('snapshots' in seeds) return;
  throw new LifeboatError('HeadMissing', `the head of ${record._id} is not on daemon ${daemon}: ${seeds.missing}`);
}

/**
 * Whether the head is here, with a position that the stored entries go on from. One that was taken over and comes back
 * may stand before all of them.
 */
export async function isHeadWhole(daemon: Daemon, stores: Stores, fence: MemberFence): Promise<boolean> {
  try {
    const { position } = (await daemon.heads.of(stores, fence)).state();
    return position !== null && (await entriesGoOnFrom(stores, fence, position.oplogFrom));
  } catch (error) {
    if (isLifeboatError(error, 'HeadFilling')) return false;
    throw error;
  }
}

/** What there is to warn of. @throws LifeboatError of the first check that failed */
async function preflight(
  ctx: StepContext,
  daemon: Daemon,
  { stores, source, begun }: { readonly stores: Stores; readonly source: Source; readonly begun: boolean },
): Promise<LifeboatError[]> {
  const wishes = await daemon.deployment(source.name);
  const machine = daemon.machine(source.name);
  const [inStores, ofDeployment] = await Promise.all([
    checkStores(stores, source, true, ctx.signal),
    checkDeployment({ source, wishes, machine, begun }, ctx.signal),
  ]);
  const findings = [inStores, ...ofDeployment];
  for (const { name, level, detail, error } of findings) {
    if (level !== 'passed') ctx.logger.warn({ check: name, level, code: error?.code }, detail);
  }
  const failed = findings.find(({ level, error }) => level === 'failed' && error !== null);
  if (failed?.error) throw failed.error;
  return findings.flatMap(warningOf);
}

function warningOf({ level, error }: Finding): LifeboatError[] {
  return level === 'warning' && error && JUDGED.some((name) => isLifeboatError(error, name)) ? [error] : [];
}

function recorded({ identity }: Source): MemberRecord['source'] {
  return { ...identity, replicaSetId: ObjectId.createFromHexString(identity.replicaSetId) };
}

async function stageOf(
  stores: Stores,
  { key, incarnation }: MemberFence,
  { sync, deployment }: MemberRecord,
): Promise<SyncStage> {
  if (sync?.stage === 'built') return 'validate';
  if (sync?.stage !== 'validated') return 'sync';
  try {
    const snapshot = await stores.manifests.findOne(
      { deployment, incarnation, ...IS_SNAPSHOT },
      { projection: { _id: 1 } },
    );
    return snapshot ? 'routine' : 'first-snapshot';
  } catch (error) {
    throw castDriverError(error, 'store', `looking for the first snapshot of ${key}`);
  }
}
