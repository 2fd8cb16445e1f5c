/**
 * Driver errors as Lifeboat's own.
 *
 * The text of a server error quotes documents, keys and credentials, so it is kept as the `cause` and never copied into
 * a message: what a message may hold is the code, its name and what was being done.
 */
import {
  MongoAPIError,
  type MongoClient,
  MongoClientClosedError,
  MongoError,
  MongoExpiredSessionError,
  MongoNetworkError,
  MongoNotConnectedError,
  MongoParseError,
  MongoServerClosedError,
  MongoServerError,
  MongoServerSelectionError,
  MongoTopologyClosedError,
} from 'mongodb';
import { isLifeboatError, LifeboatError, type ErrorName } from '../shared/errors.ts';
import { tlsFailure, tlsMismatch } from './tls.ts';

/** Which of the two kinds of deployments an error came from. */
export type Side = 'source' | 'store';

const bySide = {
  source: {
    unavailable: 'SourceUnavailable',
    auth: 'AuthFailed',
    uri: 'BadUri',
    forbidden: 'NotAuthorized',
    tls: 'TlsFailed',
  },
  store: {
    unavailable: 'StoreUnavailable',
    auth: 'StoreAuthFailed',
    uri: 'StoreBadUri',
    forbidden: 'StoreAuthFailed',
    tls: 'StoreTlsFailed',
  },
} as const satisfies Record<Side, Record<string, ErrorName>>;

/** AuthenticationFailed, and UserNotFound: the answer to a certificate that is nobody's. */
const LOGIN_REFUSED = new Set([18, 11]);
const UNAUTHORIZED = 13;
/** OutOfDiskSpace (14031), and the disk use threshold that newer servers raise. */
const DISK_FULL = new Set([14031, 371]);

/** A server error's code and codeName, without its text. */
export function serverErrorLabel(error: MongoServerError): string {
  return `${error.code ?? 'no code'} ${error.codeName ?? ''}`.trim();
}

function isAuthentication(error: unknown): boolean {
  if (!(error instanceof MongoError)) return false;
  if (LOGIN_REFUSED.has(Number(error.code))) return true;
  // Server selection wraps the failed handshake of the member it tried.
  if (error instanceof MongoServerSelectionError) {
    return [...(error.reason?.servers.values() ?? [])].some((server) => isAuthentication(server.error));
  }
  return isAuthentication(error.cause);
}

/**
 * Turns what the driver threw into a LifeboatError; anything that is one already, and an abort, comes back as it is.
 * @param what what was being done and to what, for the message, such as `reading the oplog of shop`
 */
export function castDriverError(error: unknown, side: Side, what: string): unknown {
  if (error instanceof LifeboatError) return error;
  if (error instanceof Error && error.name === 'AbortError') return error;
  const names = bySide[side];
  if (isAuthentication(error)) return new LifeboatError(names.auth, `${what}: the login was refused`, { cause: error });
  if (error instanceof MongoParseError) {
    return new LifeboatError(names.uri, `${what}: the connection string is not valid`, { cause: error });
  }
  if (error instanceof MongoServerSelectionError || error instanceof MongoNetworkError) {
    const tls = tlsFailure(error);
    if (tls !== undefined) return new LifeboatError(names.tls, `${what}: ${tls}`, { cause: error });
    return new LifeboatError(names.unavailable, `${what}: no suitable member answers`, { cause: error });
  }
  if (error instanceof MongoServerError) {
    const label = serverErrorLabel(error);
    if (error.code === UNAUTHORIZED)
      return new LifeboatError(names.forbidden, `${what}: not authorized`, { cause: error });
    if (side === 'store' && DISK_FULL.has(Number(error.code))) {
      return new LifeboatError('StoreFull', `${what}: the store's disk is full (${label})`, { cause: error });
    }
    // A transaction that met others again and again.
    if (side === 'store' && error.hasErrorLabel('TransientTransactionError')) {
      return new LifeboatError(names.unavailable, `${what}: it was not served in time (${label})`, { cause: error });
    }
    if (error.hasErrorLabel('RetryableError') || error.hasErrorLabel('RetryableWriteError') || isStateChange(error)) {
      return new LifeboatError(names.unavailable, `${what}: the member is not available (${label})`, { cause: error });
    }
    return new LifeboatError('Internal', `${what}: the server answered ${label}`, { cause: error });
  }
  if (isRefusedByDriver(error)) {
    return new LifeboatError('Internal', `${what}: the driver refused it (${error.name})`, { cause: error });
  }
  if (error instanceof MongoError) {
    return new LifeboatError(names.unavailable, `${what}: the connection broke (${error.name})`, { cause: error });
  }
  if (isSocketFailure(error)) {
    return new LifeboatError(names.unavailable, `${what}: the connection broke`, { cause: error });
  }
  return error;
}

/** What the driver says of a client or connection that is closed already, perhaps by the other side. */
const CLOSED = [
  MongoNotConnectedError,
  MongoTopologyClosedError,
  MongoServerClosedError,
  MongoClientClosedError,
  MongoExpiredSessionError,
];

/** Whether it was never sent, and never will be: such as a document larger than a server takes. */
function isRefusedByDriver(error: unknown): error is MongoAPIError {
  return error instanceof MongoAPIError && !CLOSED.some((kind) => error instanceof kind);
}

/** A write to a socket that the other side has just closed comes out of the driver as Node's own error. */
const SOCKET_FAILURES = new Set(['EPIPE', 'ECONNRESET', 'ERR_STREAM_DESTROYED', 'ERR_STREAM_WRITE_AFTER_END']);

function isSocketFailure(error: unknown): boolean {
  return error instanceof Error && 'code' in error && SOCKET_FAILURES.has(String(error.code));
}

/** As castDriverError, for what a first connection ends with: that may also be the fault of what the URI names. */
export function castConnectError(error: unknown, side: Side, what: string): unknown {
  if (error instanceof LifeboatError || error instanceof MongoError) return castDriverError(error, side, what);
  // Not the driver's: the DNS of a mongodb+srv URI, or a file that the URI names.
  const dns = error instanceof Error && 'syscall' in error && String(error.syscall).startsWith('query');
  return dns
    ? new LifeboatError(bySide[side].unavailable, `${what}: the DNS has no answer for its name`, { cause: error })
    : new LifeboatError(bySide[side].uri, `${what}: its connection string cannot be used`, { cause: error });
}

/**
 * As castConnectError, after asking the hosts of the client, where none answered, whether TLS is what keeps them apart.
 * Takes some seconds where hosts are silent.
 */
export async function explainConnectError(
  error: unknown,
  client: MongoClient,
  side: Side,
  what: string,
): Promise<unknown> {
  const cast = castConnectError(error, side, what);
  if (!isLifeboatError(cast, bySide[side].unavailable)) return cast;
  const mismatch = await tlsMismatch(client);
  if (mismatch === undefined) return cast;
  return new LifeboatError(bySide[side].tls, `${what}: ${mismatch}`, { cause: error });
}

/**
 * Codes of a member that is shutting down, stepping down or recovering (specifications, server-discovery-and-monitoring),
 * and ReadConcernMajorityNotAvailableYet of one that has just started.
 */
const STATE_CHANGE = new Set([6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 10058]);

function isStateChange(error: MongoServerError): boolean {
  return STATE_CHANGE.has(Number(error.code));
}
