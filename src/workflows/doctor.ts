/**
 * Workflow `doctor`: what a daemon sees of its stores and of a deployment. It is over within a minute; a daemon that does
 * not answer is an answer too.
 */
import { ActivityFailure, isCancellation } from '@temporalio/workflow';
import type { DoctorAnswer, DoctorInput } from '../shared/messages.ts';
import { failingWithCode } from './failures.ts';
import { deploymentField, fieldsOf } from './input.ts';
import { onDaemon, shared } from './options.ts';
import { tagDeployment } from './tags.ts';

export async function doctor(input: DoctorInput): Promise<DoctorAnswer> {
  const fields = fieldsOf('doctor', input, ['deployment']);
  const deployment = fields['deployment'] === undefined ? null : deploymentField('doctor', fields);
  if (deployment !== null) tagDeployment(deployment);
  const { daemon, taskQueue } = await failingWithCode(() => shared().claim({ purpose: 'inspect', deployment }));
  try {
    return { daemon, inspection: await onDaemon(taskQueue).inspect({ deployment }) };
  } catch (error) {
    if (isCancellation(error) || !(error instanceof ActivityFailure)) throw error;
    return { daemon, inspection: null };
  }
}
