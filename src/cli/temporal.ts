/** Talking to Temporal, and what its errors mean. */
import {
  Client,
  Connection,
  isGrpcServiceError,
  NamespaceNotFoundError,
  ServiceError,
  WorkflowNotFoundError,
} from '@temporalio/client';
import { chooseTemporal, type TemporalTarget } from '../config/temporal.ts';
import { readUp } from '../embedded/up.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { CliContext } from './context.ts';

export interface Temporal {
  readonly client: Client;
  readonly target: TemporalTarget;
}

const CONNECT_TIMEOUT_MS = 8_000;
/** How long one call may take. Those that wait for a worker set their own. */
const CALL_TIMEOUT_MS = 10_000;

// The codes of gRPC that are told apart here: google.golang.org/grpc/codes.
const INVALID_ARGUMENT = 3;
const PERMISSION_DENIED = 7;
const UNAUTHENTICATED = 16;

/** @throws LifeboatError `TemporalUnavailable`, `ConfigInvalid` */
export async function temporalTarget({
  home,
  homeGiven,
  env,
}: Pick<CliContext, 'home' | 'homeGiven' | 'env'>): Promise<TemporalTarget> {
  const up = await readUp(home);
  return chooseTemporal({ home, homeGiven, up: up?.temporal, env });
}

/**
 * Connects for as long as `use` runs.
 * @throws LifeboatError `TemporalUnavailable`, with the address; `SearchAttributesMissing`; what `use` throws
 */
export async function withTemporal<T>(context: CliContext, use: (temporal: Temporal) => Promise<T>): Promise<T> {
  const target = await temporalTarget(context);
  try {
    const connection = await Connection.connect({ ...target.connectionOptions, connectTimeout: CONNECT_TIMEOUT_MS });
    try {
      return await use({ client: new Client({ connection, namespace: target.namespace }), target });
    } finally {
      await connection.close();
    }
  } catch (error) {
    throw castTemporalError(error, target);
  }
}

/** Runs calls that need no worker, under the usual deadline. */
export async function promptly<T>({ client }: Temporal, calls: () => Promise<T>): Promise<T> {
  return client.withDeadline(Date.now() + CALL_TIMEOUT_MS, calls);
}

/** Runs `call`, or answers undefined when there is no such workflow, or it has ended. */
export async function unlessNotFound<T>(call: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return undefined;
    throw error;
  }
}

function castTemporalError(error: unknown, { address, namespace, why }: TemporalTarget): unknown {
  const where = `Temporal at ${address} (${why})`;
  if (error instanceof NamespaceNotFoundError) {
    return new LifeboatError('TemporalUnavailable', `${where} has no namespace "${namespace}"`, { cause: error });
  }
  const cause = error instanceof ServiceError ? error.cause : error;
  if (!isGrpcServiceError(cause)) {
    return error instanceof ServiceError
      ? new LifeboatError('TemporalUnavailable', `${where} does not answer`, { cause: error })
      : error;
  }
  const code = Number(cause.code);
  if (code === INVALID_ARGUMENT && /search attribute/i.test(cause.details)) {
    return new LifeboatError('SearchAttributesMissing', `${where} does not know the search attributes of Lifeboat`, {
      cause: error,
    });
  }
  if (code === PERMISSION_DENIED || code === UNAUTHENTICATED) {
    return new LifeboatError('TemporalUnavailable', `${where} refused the login`, { cause: error });
  }
  return new LifeboatError('TemporalUnavailable', `${where} does not answer`, { cause: error });
}
