/** `lifeboat retention`: which snapshots are kept and for what, and the others deleted. */
import { unknownDeployment } from '../../config/uris.ts';
import type { ApplyRetentionInput, RetentionResult, RetentionView } from '../../shared/messages.ts';
import { viewRetention } from '../../steps/apply-retention.ts';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import { withStores } from '../stores.ts';
import { optime, table } from '../text.ts';
import type { WaitFlags } from '../work.ts';
import { runWork } from './run-work.ts';

/** Read from the stores, by the configuration at hand. */
export async function showRetention(context: CliContext, name: string): Promise<Outcome> {
  const config = await context.config();
  const deployment = config.deployments.get(name);
  if (!deployment) throw unknownDeployment(config, name);
  const { keep, pointInTimeWindowMs: windowMs } = deployment;
  const view = await withStores(context, (stores) => viewRetention(stores, { deployment: name, keep, windowMs }));
  return { result: view, text: viewText(view) };
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

function viewText({ deployment, keep, snapshots }: RetentionView): string {
  if (snapshots.length === 0) return `There are no snapshots of ${deployment} yet.`;
  const lines = table(
    ['ID', 'OPTIME', 'KEPT FOR'],
    snapshots.map(({ id, optime: at, keptFor }) => [id, optime(at), keptFor.join(', ') || 'nothing: it goes']),
  );
  return keep ? lines : `${lines}\nThe configuration keeps all: deployments.${deployment}.snapshots.keep says which.`;
}

function resultText({ deployment, keep, deleted, deletedIds, skipped }: RetentionResult): string {
  if (!keep) return `The configuration keeps all snapshots of ${deployment}.`;
  const more = deleted > deletedIds.length ? ` and ${deleted - deletedIds.length} more` : '';
  const gone =
    deleted === 0
      ? 'Nothing was to be deleted.'
      : `Deleted ${deletedIds.join(', ')}${more}; \`lifeboat groom\` frees their space.`;
  return [gone, ...skipped.map(({ reason }) => `Stays for now: ${reason}`)].join('\n');
}
