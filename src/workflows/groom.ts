/** Workflow `groom`: blocks that no snapshot refers to are freed, beside snapshots and restores that go on. */
import { setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import type { GroomCensus, GroomInput, GroomResult } from '../shared/messages.ts';
import { bytes } from '../shared/phrases.ts';
import { anywhere } from './anywhere.ts';
import { fieldsOf, flagField } from './input.ts';

export async function groom(input: GroomInput): Promise<GroomResult> {
  const dryRun = flagField('groom', fieldsOf('groom', input, ['dryRun']), 'dryRun');
  const { startTime, firstExecutionRunId } = workflowInfo();
  setCurrentDetails('The blocks that snapshots refer to are counted, and those that none does.');
  const census = await anywhere((daemon) => daemon.planGroom());
  const resultOf = (freed: Pick<GroomResult, 'deletedBlocks' | 'reclaimedBytes' | 'reusableBytes'>): GroomResult => ({
    ...census,
    ...freed,
    durationMs: Date.now() - startTime.getTime(),
    dryRun,
  });
  if (dryRun) {
    setCurrentDetails(`${censusText(census)} Nothing was deleted.`);
    return resultOf({ deletedBlocks: 0, reclaimedBytes: 0, reusableBytes: null });
  }
  setCurrentDetails(`${censusText(census)} They are being deleted.`);
  const result = resultOf(await anywhere((daemon) => daemon.groom({ run: firstExecutionRunId })));
  setCurrentDetails(
    `${censusText(census)} ${result.deletedBlocks} were deleted, ${bytes(result.reclaimedBytes)}: room for blocks to come.`,
  );
  return result;
}

function censusText({ liveBlocks, liveBytes, deadBlocks, deadBytes }: GroomCensus): string {
  return `${liveBlocks} blocks are alive (${bytes(liveBytes)}), ${deadBlocks} are dead (${bytes(deadBytes)}).`;
}
