/** Workflow `retireDaemon`: a daemon is gone for good, and others take over its backups without waiting any longer. */
import { getExternalWorkflowHandle } from '@temporalio/workflow';
import type { RetireDaemonInput, RetiredDaemon } from '../shared/messages.ts';
import { backupWorkflowId } from '../shared/names.ts';
import { reclaiming } from './claiming.ts';
import { fieldsOf, textField } from './input.ts';
import { daemonRetired } from './messages.ts';
import { onDaemon, shared } from './options.ts';

export async function retireDaemon(input: RetireDaemonInput): Promise<RetiredDaemon> {
  const daemon = textField('retireDaemon', fieldsOf('retireDaemon', input, ['daemon']), 'daemon');
  const retired = await reclaiming(async () => {
    const { taskQueue, patienceMs } = await shared().claim({ purpose: 'anywhere' });
    return onDaemon(taskQueue, patienceMs).retireDaemon({ daemon });
  });
  for (const deployment of retired.deployments) await tell(deployment);
  return retired;
}

/** A backup that does not run has nothing to take over; it asks when it is started. */
async function tell(deployment: string): Promise<void> {
  await getExternalWorkflowHandle(backupWorkflowId(deployment))
    .signal(daemonRetired)
    .catch(() => undefined);
}
