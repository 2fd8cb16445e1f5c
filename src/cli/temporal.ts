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
  readonly connection: Connection;
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
    const connection = await connect(target);
    try {
      return await use({ client: new Client({ connection, namespace: target.namespace }), connection, target });
    } finally {
      await connection.close();
    }
  } catch (error) {
    throw castTemporalError(error, target);
  }
}

async function connect(target: TemporalTarget): Promise<Connection> {
  try {
    return await Connection.connect({ ...target.connectionOptions, connectTimeout: CONNECT_TIMEOUT_MS });
  } catch (error) {
    const cast = castTemporalError(error, target);
    if (cast instanceof LifeboatError) throw cast;
    // Nobody is there: the SDK says that by a plain error.
    throw unanswered(target, error);
  }
}

function unanswered({ address, why }: TemporalTarget, cause: unknown): LifeboatError {
  return new LifeboatError('TemporalUnavailable', `Temporal at ${address} (${why}) does not answer`, { cause });
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

function castTemporalError(error: unknown, target: TemporalTarget): unknown {
  const where = `Temporal at ${target.address} (${target.why})`;
  if (error instanceof NamespaceNotFoundError) {
    const message = `${where} has no namespace "${target.namespace}"`;
    return new LifeboatError('TemporalUnavailable', message, { cause: error });
  }
  const cause = error instanceof ServiceError ? error.cause : error;
  if (!isGrpcServiceError(cause)) return error instanceof ServiceError ? unanswered(target, error) : error;
  const code: number = cause.code;
  if (code === INVALID_ARGUMENT && /search attribute/i.test(cause.details)) {
    const message = `${where} does not know the search attributes of Lifeboat`;
    return new LifeboatError('SearchAttributesMissing', message, { cause: error });
  }
  if (code === PERMISSION_DENIED || code === UNAUTHENTICATED) {
    return new LifeboatError('TemporalUnavailable', `${where} refused the login`, { cause: error });
  }
  return unanswered(target, error);
}
