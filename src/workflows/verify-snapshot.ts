/** Workflow `verifySnapshot`: every block of a snapshot read and checked. Damage is a result, not a failure. */
import { setCurrentDetails } from '@temporalio/workflow';
import type { VerifyResult, VerifySnapshotInput } from '../shared/messages.ts';
import { deploymentOfSnapshot } from '../shared/names.ts';
import { reclaiming } from './claiming.ts';
import { fieldsOf, textField } from './input.ts';
import { onDaemon, shared } from './options.ts';
import { tagDeployment } from './tags.ts';

export async function verifySnapshot(input: VerifySnapshotInput): Promise<VerifyResult> {
  const snapshot = textField('verifySnapshot', fieldsOf('verifySnapshot', input, ['snapshot']), 'snapshot');
  const deployment = deploymentOfSnapshot(snapshot);
  if (deployment !== undefined) tagDeployment(deployment);
  return reclaiming(async () => {
    const { taskQueue, patienceMs } = await shared().claim({ purpose: 'anywhere' });
    setCurrentDetails(`Reading every block of snapshot \`${snapshot}\`, on the task queue \`${taskQueue}\`.`);
    const result = await onDaemon(taskQueue, patienceMs).verifySnapshot({ snapshot });
    setCurrentDetails(
      `Snapshot \`${snapshot}\`: ${result.blocksChecked} blocks read, ${result.problems.length} problems.`,
    );
    return result;
  });
}
