/** Whether the backup of a deployment runs, for what may not be done meanwhile. */
import { access } from 'node:fs/promises';
import type { Config } from '../../config/schema.ts';
import { isLifeboatError, LifeboatError } from '../../shared/errors.ts';
import { backupWorkflowId } from '../../shared/names.ts';
import type { CliContext } from '../context.ts';
import { withStores } from '../stores.ts';
import { promptly, unlessNotFound, withTemporal } from '../temporal.ts';

/**
 * Whether the backup of a deployment runs: Temporal knows it best, the stores know it too.
 * @throws LifeboatError when neither can tell
 */
export async function backupRuns(context: CliContext, config: Config, name: string): Promise<boolean> {
  if (await nothingEverRan(context, config)) return false;
  try {
    return await withTemporal(context, (temporal) =>
      promptly(temporal, async () => {
        const handle = temporal.client.workflow.getHandle(backupWorkflowId(name));
        const description = await unlessNotFound(() => handle.describe());
        return description?.status.name === 'RUNNING';
      }),
    );
  } catch (error) {
    if (!isLifeboatError(error, 'TemporalUnavailable')) throw error;
    const record = await withStores(context, (stores) => stores.deployments.findOne({ _id: name })).catch(
      () => undefined,
    );
    if (record === undefined) {
      throw new LifeboatError(
        'TemporalUnavailable',
        `cannot tell whether the backup of ${name} runs: ${error.message}`,
        {
          cause: error,
        },
      );
    }
    return record !== null && record.phase !== 'stopped';
  }
}

/** True when no backup can exist: there is no home, and neither a Temporal nor a blockstore is named anywhere. */
async function nothingEverRan({ home, env }: CliContext, config: Config): Promise<boolean> {
  const named = ['TEMPORAL_ADDRESS', 'TEMPORAL_PROFILE', 'TEMPORAL_CONFIG_FILE', 'LIFEBOAT_BLOCKSTORE_URI'].some(
    (variable) => (env[variable] ?? '') !== '',
  );
  if (named || config.blockstore) return false;
  return access(home).then(
    () => false,
    () => true,
  );
}
