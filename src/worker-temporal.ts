/** The worker's connection to Temporal, and what must be true there before it polls. */
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { NativeConnection } from '@temporalio/worker';
import { LifeboatError } from './shared/errors.ts';
import { missingSearchAttributes } from './shared/names.ts';

export interface WorkerConnection {
  readonly connection: NativeConnection;
  readonly namespace: string;
}

/**
 * Connects as the standard `TEMPORAL_*` variables and profiles say.
 * @throws LifeboatError `TemporalUnavailable`
 */
export async function connectWorker(env: NodeJS.ProcessEnv): Promise<WorkerConnection> {
  const variables = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const { connectionOptions, namespace = 'default' } = loadClientConnectConfig({
    overrideEnvVars: Object.fromEntries(variables),
  });
  try {
    return { connection: await NativeConnection.connect(connectionOptions), namespace };
  } catch (error) {
    const address = connectionOptions.address ?? 'localhost:7233';
    throw new LifeboatError('TemporalUnavailable', `no Temporal answers at ${address}`, { cause: error });
  }
}

/**
 * A workflow that sets an attribute that is not registered fails its task for ever.
 * @throws LifeboatError `SearchAttributesMissing`, `TemporalUnavailable`
 */
export async function requireSearchAttributes({ connection, namespace }: WorkerConnection): Promise<void> {
  const { customAttributes } = await connection.operatorService
    .listSearchAttributes({ namespace })
    .catch((error: unknown) => {
      const message = `Temporal does not list the search attributes of the namespace ${namespace}`;
      throw new LifeboatError('TemporalUnavailable', message, { cause: error });
    });
  const missing = missingSearchAttributes(customAttributes);
  if (missing.length === 0) return;
  const message = `the namespace ${namespace} has no search attribute ${missing.join(', ')} of type Keyword`;
  throw new LifeboatError('SearchAttributesMissing', message);
}
