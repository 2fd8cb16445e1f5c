/** `lifeboat daemons`: the workers that are, or were, there; and that one of them is gone for good. */
import type { RetireDaemonInput, RetiredDaemon } from '../../shared/messages.ts';
import { TASK_QUEUE, workflowIdOf } from '../../shared/names.ts';
import { readDaemons } from '../../status/daemons.ts';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import { withStores } from '../stores.ts';
import { promptly, withTemporal } from '../temporal.ts';
import { table, time } from '../text.ts';
import { uniqueId, type WaitFlags } from '../work.ts';
import { settle } from './settle.ts';

export async function showDaemons(context: CliContext): Promise<Outcome> {
  const daemons = await withStores(context, readDaemons);
  const text = table(
    ['ID', 'HOST', 'STATE', 'LAST HEARD OF', 'BACKUPS'],
    daemons.map(({ id, host, state, seenAt, deployments }) => [
      id,
      host,
      state,
      time(seenAt),
      deployments.join(', ') || '-',
    ]),
  );
  return { result: { daemons }, text: daemons.length === 0 ? 'No worker has ever run here.' : text };
}

/** Another worker writes it down and tells the backups, so one has to run. */
export async function retireDaemon(context: CliContext, id: string, timeout: number | undefined): Promise<Outcome> {
  const input: RetireDaemonInput = { daemon: id };
  const unique = uniqueId();
  const flags: WaitFlags = { wait: true, timeout };
  return withTemporal(context, async (temporal) => {
    const handle = await promptly(temporal, () =>
      temporal.client.workflow.start('retireDaemon', {
        workflowId: workflowIdOf('retireDaemon', id, unique),
        taskQueue: TASK_QUEUE,
        args: [input],
        staticSummary: `Daemon ${id} is gone for good`,
      }),
    );
    return settle<RetiredDaemon>({
      context,
      temporal,
      handle,
      ids: { workflowId: handle.workflowId, runId: handle.firstExecutionRunId, id: unique },
      flags,
      what: `the retirement of ${id}`,
      hint: 'see `lifeboat daemons list`',
      outcome: (retired) => ({ result: retired, text: retiredText(retired) }),
    });
  });
}

function retiredText({ id, deployments }: RetiredDaemon): string {
  const owned =
    deployments.length === 0 ? 'It owned no backup.' : `Another daemon takes over ${deployments.join(', ')}.`;
  return `Daemon ${id} is retired. ${owned}`;
}
