/** Warnings of a member: what stops nothing yet. */
import type { LifeboatError } from '../shared/errors.ts';
import type { Stores } from './connect.ts';
import { readMember, updateMember, type MemberFence } from './members.ts';
import type { MemberRecord, StoredProblem } from './records.ts';

/** What was looked at, and what there is to warn of. */
export interface Judgement {
  /** Codes that were judged: of these, what is not in `found` is over. */
  readonly judged: readonly string[];
  readonly found: readonly LifeboatError[];
}

/** The warnings after a judgement. One that stays keeps its `since`, with the newest text. */
export function judgedWarnings(
  before: readonly StoredProblem[],
  { judged, found }: Judgement,
  now: Date,
): readonly StoredProblem[] {
  const others = before.filter(({ code }) => !judged.includes(code));
  const kept = found.map(({ code, message, fix }) => {
    const since = before.find((known) => known.code === code)?.since ?? now;
    return { code, message, fix, since };
  });
  return [...others, ...kept];
}

/**
 * Writes a judgement, with other fields if there are any; all warnings there are then. Two judgements at once may lose
 * one of them until it is made again, as each is every minute.
 * @throws LifeboatError `FenceLost`, `StoreUnavailable`
 */
export async function writeJudgement(
  stores: Stores,
  fence: MemberFence,
  judgement: Judgement,
  fields: Pick<Partial<MemberRecord>, 'oplog'> = {},
): Promise<readonly StoredProblem[]> {
  const { warnings: before } = await readMember(stores, fence);
  const warnings = judgedWarnings(before, judgement, new Date());
  await updateMember(stores, fence, { warnings, ...fields });
  return warnings;
}
