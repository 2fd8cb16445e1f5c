/** Search attributes. They must be registered before a workflow sets them: the worker checks that at its start. */
import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import { upsertSearchAttributes } from '@temporalio/workflow';
import type { Phase } from '../shared/messages.ts';
import { deploymentOfSnapshot, SearchAttribute } from '../shared/names.ts';

const deploymentKey = defineSearchAttributeKey(SearchAttribute.deployment, SearchAttributeType.KEYWORD);
const phaseKey = defineSearchAttributeKey(SearchAttribute.phase, SearchAttributeType.KEYWORD);

export function tagDeployment(deployment: string): void {
  upsertSearchAttributes([{ key: deploymentKey, value: deployment }]);
}

export function tagPhase(phase: Phase): void {
  upsertSearchAttributes([{ key: phaseKey, value: phase }]);
}

/** The same for work on a snapshot, whose id tells the deployment. */
export function tagSnapshot(snapshot: string): void {
  const deployment = deploymentOfSnapshot(snapshot);
  if (deployment !== undefined) tagDeployment(deployment);
}
