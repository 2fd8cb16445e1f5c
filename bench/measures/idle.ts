/** How much an idle backup adds to its history. */
import { setTimeout as delay } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { backupWorkflowId } from '../../src/shared/names.ts';
import { DEPLOYMENT, type Product } from '../product.ts';

/**
 * Looks on while nothing is written to the source.
 * @returns events of the workflow's history in an hour, by what came in `minutes`
 */
export async function idleEventsPerHour(product: Product, minutes: number): Promise<number> {
  const connection = await Connection.connect({ address: product.running.temporal.address });
  try {
    const handle = new Client({ connection }).workflow.getHandle(backupWorkflowId(DEPLOYMENT));
    const length = async (): Promise<{ readonly runId: string; readonly events: number }> => {
      const { runId, historyLength } = await handle.describe();
      return { runId, events: historyLength };
    };
    const before = await length();
    await delay(minutes * 60_000);
    const after = await length();
    if (after.runId !== before.runId) throw new Error('the workflow began a new run meanwhile');
    return ((after.events - before.events) * 60) / minutes;
  } finally {
    await connection.close();
  }
}
