/** Workflow `verifySnapshot`: every block of a snapshot, or a sample of them, read and checked. Damage is a result, not a failure. */
import { setCurrentDetails } from '@temporalio/workflow';
import type { VerifyResult, VerifySnapshotInput } from '../shared/messages.ts';
import { reclaiming } from './claiming.ts';
import { bytes, inPercent } from '../shared/phrases.ts';
import { daemonText, workDetails } from './details.ts';
import { fieldsOf, shareField, textField } from './input.ts';
import { observing } from './observing.ts';
import { onDaemon, shared } from './options.ts';
import { tagSnapshot } from './tags.ts';

export async function verifySnapshot(input: VerifySnapshotInput): Promise<VerifyResult> {
  const fields = fieldsOf('verifySnapshot', input, ['snapshot', 'sample']);
  const snapshot = textField('verifySnapshot', fields, 'snapshot');
  const sample = shareField('verifySnapshot', fields, 'sample');
  tagSnapshot(snapshot);
  return reclaiming(async () => {
    const { taskQueue, daemon: name, patienceMs } = await shared().claim({ purpose: 'anywhere' });
    const blocks = sample === undefined ? 'Every block' : `A sample of ${inPercent(sample)} of the blocks`;
    const what = `${blocks} of snapshot \`${snapshot}\` is read and checked.`;
    const where = daemonText(name, taskQueue);
    setCurrentDetails(workDetails(what, where, null));
    const daemon = onDaemon(taskQueue, patienceMs);
    const result = await observing(
      daemon,
      () => daemon.verifySnapshot({ snapshot, ...(sample === undefined ? {} : { sample }) }),
      (sight) => setCurrentDetails(workDetails(what, where, { sight, at: new Date().toISOString() })),
    );
    setCurrentDetails(verdict(snapshot, result, sample));
    return result;
  });
}

function verdict(
  snapshot: string,
  { ok, blocksChecked, bytesChecked, problems }: VerifyResult,
  sample: number | undefined,
): string {
  const share = sample === undefined ? '' : ` (a sample of ${inPercent(sample)})`;
  const read = `${blocksChecked} blocks, ${bytes(bytesChecked)}${share}`;
  if (ok) return `Snapshot \`${snapshot}\` is sound: ${read} read and checked.`;
  const list = problems.map(({ code, message }) => `- ${code}: ${message}`);
  return [`⚠ Snapshot \`${snapshot}\` is **damaged**: ${read} read.`, '', ...list].join('\n');
}
