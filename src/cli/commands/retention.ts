/** `lifeboat retention`: which snapshots are kept and for what, and the others deleted. */
import type { ApplyRetentionInput, RetentionPlan, RetentionResult } from '../../shared/messages.ts';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import { optime, table } from '../text.ts';
import type { WaitFlags } from '../work.ts';
import { runWork } from './run-work.ts';

/** The plan is the answer, so it is always waited for. */
export async function showRetention(context: CliContext, name: string, timeout: number | undefined): Promise<Outcome> {
  return runWork<RetentionPlan>(context, {
    type: 'applyRetention',
    deployment: name,
    input: { deployment: name, dryRun: true } satisfies ApplyRetentionInput,
    summary: `Plan of the retention of ${name}`,
    flags: { wait: true, timeout },
    what: `the plan of the retention of ${name}`,
    outcome: (plan) => ({ result: plan, text: planText(plan) }),
  });
}

export async function applyRetention(context: CliContext, name: string, flags: WaitFlags): Promise<Outcome> {
  return runWork<RetentionResult>(context, {
    type: 'applyRetention',
    deployment: name,
    input: { deployment: name } satisfies ApplyRetentionInput,
    summary: `Retention of ${name}`,
    flags,
    what: `the retention of ${name}`,
    outcome: (result) => ({ result, text: resultText(result) }),
  });
}

function planText({ deployment, keep, snapshots }: RetentionPlan): string {
  if (snapshots.length === 0) return `There are no snapshots of ${deployment} yet.`;
  const lines = table(
    ['ID', 'OPTIME', 'KEPT FOR'],
    snapshots.map(({ id, optime: at, keptFor }) => [id, optime(at), keptFor.join(', ') || 'nothing: it goes']),
  );
  return keep ? lines : `${lines}\nThe configuration keeps all: deployments.${deployment}.snapshots.keep says which.`;
}

function resultText({ deployment, keep, deleted, skipped }: RetentionResult): string {
  if (!keep) return `The configuration keeps all snapshots of ${deployment}.`;
  const gone = deleted.length === 0 ? 'Nothing was to be deleted' : `Deleted ${deleted.join(', ')}`;
  const stay = skipped.map(({ reason }) => `Stays for now: ${reason}`);
  return [`${gone}; \`lifeboat groom\` frees their space.`, ...stay].join('\n');
}
