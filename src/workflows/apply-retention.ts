/** Workflow `applyRetention`: the snapshots of a deployment that no tier keeps are deleted, one by one. */
import { setCurrentDetails } from '@temporalio/workflow';
import type { ApplyRetentionInput, RetentionPlan, RetentionResult } from '../shared/messages.ts';
import { anywhere } from './anywhere.ts';
import { deploymentField, fieldsOf, flagField } from './input.ts';
import { tagDeployment } from './tags.ts';

export async function applyRetention(input: ApplyRetentionInput): Promise<RetentionPlan | RetentionResult> {
  const fields = fieldsOf('applyRetention', input, ['deployment', 'dryRun']);
  const deployment = deploymentField('applyRetention', fields);
  const dryRun = flagField('applyRetention', fields, 'dryRun');
  tagDeployment(deployment);
  const plan = await anywhere((daemon) => daemon.planRetention({ deployment }));
  setCurrentDetails(`${planText(plan)} ${dryRun ? 'Nothing was deleted.' : 'They are being deleted.'}`);
  if (dryRun) return plan;
  const result = await anywhere((daemon) => daemon.applyRetention({ deployment }));
  setCurrentDetails(resultText(result));
  return result;
}

function planText({ deployment, keep, kept, going }: RetentionPlan): string {
  const tiers = keep ? 'no tier keeps' : 'of a deployment that keeps all';
  return `**${deployment}**: ${kept} snapshots stay, ${going} ${tiers}.`;
}

function resultText({ deployment, kept, deleted, skipped }: RetentionResult): string {
  const stay = skipped.map(({ reason }) => `- ${reason}`);
  const text = `**${deployment}**: ${deleted} snapshots deleted, ${kept} kept.`;
  return [text, ...(stay.length > 0 ? ['', ...stay] : [])].join('\n');
}
