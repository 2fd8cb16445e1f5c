/** `lifeboat snapshots`: taken, listed, shown, verified, held, deleted. */
import { findSnapshot, findWithFindings, listSnapshots } from '../../blockstore/snapshots.ts';
import { LifeboatError } from '../../shared/errors.ts';
import type {
  DeletedSnapshot,
  DeleteSnapshotInput,
  HoldSnapshotInput,
  SnapshotInput,
  SnapshotSummary,
  SnapshotVerification,
  VerifyResult,
  VerifySnapshotInput,
} from '../../shared/messages.ts';
import type { CliContext } from '../context.ts';
import { findingOf, findingText, section } from '../findings.ts';
import { errorFrom, type Outcome } from '../outcome.ts';
import { withStores } from '../stores.ts';
import { bytes, duration, fields, optime, table, time } from '../text.ts';
import type { WaitFlags } from '../work.ts';
import { runWork } from './run-work.ts';

export async function createSnapshot(context: CliContext, name: string, flags: WaitFlags): Promise<Outcome> {
  return runWork<SnapshotSummary>(context, {
    type: 'snapshot',
    deployment: name,
    input: { deployment: name } satisfies SnapshotInput,
    summary: `Snapshot of ${name}`,
    flags,
    what: `the snapshot of ${name}`,
    hint: `see \`lifeboat snapshots list ${name}\``,
    outcome: taken,
  });
}

/** A snapshot of a head that differs is there, and no success. */
function taken(summary: SnapshotSummary): Outcome {
  const { state, different } = summary.verification;
  const outcome = { result: summary, text: snapshotText(summary) };
  if (state !== 'different') return outcome;
  const message = `snapshot ${summary.id} was taken, and differs from the source in ${different.join(', ')}`;
  return { ...outcome, error: new LifeboatError('Diverged', message) };
}

export async function showSnapshots(context: CliContext, name: string | undefined): Promise<Outcome> {
  const snapshots = await withStores(context, (stores) => listSnapshots(stores, name));
  const none = name === undefined ? 'There are no snapshots yet.' : `There are no snapshots of ${name} yet.`;
  return { result: { snapshots }, text: snapshots.length === 0 ? none : snapshotsTable(snapshots) };
}

export async function showSnapshot(context: CliContext, id: string): Promise<Outcome> {
  const found = await withStores(context, (stores) => findWithFindings(stores, id));
  if (!found) throw unknownSnapshot(id);
  const { summary, exclude, findings: stored } = found;
  const findings = { different: stored.different.map(findingOf), notCompared: stored.notCompared };
  const text = [
    snapshotText(summary),
    ...section('Left out', exclude),
    ...section('Different', findings.different.map(findingText)),
    ...section('Not compared', [
      ...findings.notCompared.map(({ namespace, reason }) => `${namespace}: ${reason}`),
      ...moreThan(findings.notCompared.length, summary.verification.omissions),
    ]),
  ].join('\n');
  return { result: { ...summary, exclude, findings }, text };
}

function moreThan(told: number, all: number): string[] {
  return all > told ? [`and ${all - told} more`] : [];
}

function unknownSnapshot(id: string): LifeboatError {
  return new LifeboatError('UnknownSnapshot', `there is no snapshot ${id}`);
}

/** @throws LifeboatError `UnknownSnapshot` */
export async function existingSnapshot(context: CliContext, id: string): Promise<SnapshotSummary> {
  const snapshot = await withStores(context, (stores) => findSnapshot(stores, id));
  if (!snapshot) throw unknownSnapshot(id);
  return snapshot;
}

/** Reads all of a snapshot, or a sample of its blocks; the answer is the result, so it is always waited for. */
export async function verifySnapshot(
  context: CliContext,
  id: string,
  { sample, timeout }: { readonly sample?: number | undefined; readonly timeout?: number | undefined },
): Promise<Outcome> {
  const { deployment } = await existingSnapshot(context, id);
  return runWork<VerifyResult>(context, {
    type: 'verifySnapshot',
    deployment,
    input: { snapshot: id, ...(sample === undefined ? {} : { sample }) } satisfies VerifySnapshotInput,
    summary: `Verification of ${id}`,
    flags: { wait: true, timeout },
    what: `the verification of ${id}`,
    outcome: (result) => verified(id, result),
  });
}

/** Deletes a snapshot; it takes no time, so it is always waited for. */
export async function deleteSnapshot(context: CliContext, id: string, timeout: number | undefined): Promise<Outcome> {
  const { deployment } = await existingSnapshot(context, id);
  return runWork<DeletedSnapshot>(context, {
    type: 'deleteSnapshot',
    deployment,
    input: { snapshot: id } satisfies DeleteSnapshotInput,
    summary: `Deletion of ${id}`,
    flags: { wait: true, timeout },
    what: `the deletion of ${id}`,
    outcome: (result) => ({ result, text: `Deleted snapshot ${id}; \`lifeboat groom\` frees its space.` }),
  });
}

/** Holds a snapshot, so that nobody deletes it, or takes the hold back. */
export async function holdSnapshot(
  context: CliContext,
  id: string,
  change: { readonly hold: boolean; readonly reason?: string | undefined },
  timeout: number | undefined,
): Promise<Outcome> {
  const { deployment } = await existingSnapshot(context, id);
  const { hold, reason } = change;
  const input: HoldSnapshotInput = { snapshot: id, ...(hold && reason !== undefined ? { reason } : {}) };
  return runWork<SnapshotSummary>(context, {
    type: hold ? 'holdSnapshot' : 'releaseSnapshot',
    deployment,
    input,
    summary: hold ? `Hold of ${id}` : `Release of ${id}`,
    flags: { wait: true, timeout },
    what: hold ? `the hold of ${id}` : `the release of ${id}`,
    outcome: (result) => ({
      result,
      text: hold ? `Snapshot ${id} is held: nobody deletes it.` : `Snapshot ${id} is no longer held.`,
    }),
  });
}

function verified(id: string, result: VerifyResult): Outcome {
  const { ok, blocksChecked, bytesChecked, problems } = result;
  const read = `${blocksChecked} blocks, ${bytes(bytesChecked)}`;
  if (ok) return { result, text: `Snapshot ${id} is sound: ${read} read and checked.` };
  const [first] = problems;
  const error = first
    ? errorFrom(
        first.code,
        problems.length === 1 ? first.message : `${first.message} (and ${problems.length - 1} more)`,
      )
    : new LifeboatError('BlockDamaged', `snapshot ${id} is not sound`);
  const text = problems.map(({ code, message }) => `${code} ${message}`).join('\n');
  return { result, text: [`Snapshot ${id} is DAMAGED: ${read} read.`, text].filter(Boolean).join('\n'), error };
}

function snapshotsTable(snapshots: readonly SnapshotSummary[]): string {
  return table(
    ['ID', 'DEPLOYMENT', 'OPTIME', 'SIZE', 'NEW', 'REUSED BLOCKS', 'TOOK', 'COMPARED', 'HELD'],
    snapshots.map((snapshot) => [
      snapshot.id,
      snapshot.deployment,
      optime(snapshot.optime),
      bytes(snapshot.logicalBytes),
      bytes(snapshot.newStoredBytes),
      String(snapshot.reusedBlocks),
      duration(snapshot.durationMs),
      comparedShort(snapshot.verification),
      snapshot.hold ? 'held' : '',
    ]),
    [3, 4, 5, 6],
  );
}

function snapshotText(snapshot: SnapshotSummary): string {
  return fields([
    ['snapshot', snapshot.id],
    ['deployment', snapshot.deployment],
    ['optime', optime(snapshot.optime)],
    ['source wrote it at', time(snapshot.wallTime)],
    ['size', bytes(snapshot.logicalBytes)],
    ['new blocks', `${snapshot.newBlocks}, ${bytes(snapshot.newStoredBytes)} stored`],
    ['reused blocks', String(snapshot.reusedBlocks)],
    ['took', duration(snapshot.durationMs)],
    ['compared with the source', comparedText(snapshot.verification)],
    ['not all that was due', snapshot.verification.state === 'not-compared' ? null : snapshot.verification.reason],
    ['this round', roundText(snapshot.verification)],
    [
      'held',
      snapshot.hold &&
        `since ${time(snapshot.hold.since)}${snapshot.hold.reason === null ? '' : `: ${snapshot.hold.reason}`}`,
    ],
  ]);
}

/** What of a snapshot was compared, in a word or two. */
function comparedShort({ state, totalBytes, bytes: equal }: SnapshotVerification): string {
  if (state === 'different') return 'DIFFERENT';
  if (state === 'not-compared') return 'not compared';
  return `${percent(equal, totalBytes)} equal`;
}

function comparedText({ state, reason, ...told }: SnapshotVerification): string {
  if (state === 'not-compared') return `not compared: ${reason ?? 'nothing that was due can be'}`;
  const { documents, bytes: equal, ranges, totalBytes, definitions, ageSeconds, omissions, different } = told;
  const what = `${documents} documents, ${bytes(equal)}, in ${ranges} ranges (${percent(equal, totalBytes)} of all)`;
  const within = ageSeconds === null ? '' : `, within ${ageSeconds} s of the optime`;
  const rest = omissions === 0 ? '' : `; ${omissions} could not be compared`;
  const known = `${what}${definitions ? ' and all definitions' : ', no definitions'}${within}${rest}`;
  return state === 'equal' ? `equal: ${known}` : `DIFFERENT: ${different.join(', ')}. Equal: ${known}`;
}

function roundText(told: SnapshotVerification): string | null {
  const { round, snapshot, within, roundEnded, roundBytes, totalBytes } = told;
  if (round === 0) return null;
  const far = roundEnded ? 'all that can be compared is' : `${percent(roundBytes, totalBytes)} so far`;
  return `${round}, snapshot ${snapshot} of ${within}: ${far}`;
}

/** Of an estimate, which may be less than what was read. */
function percent(part: number, total: number | null): string {
  if (total === null) return '?%';
  if (total === 0) return '100%';
  const share = Math.min(100, (100 * part) / total);
  return `${share < 10 && share > 0 ? share.toFixed(1) : Math.floor(share)}%`;
}
