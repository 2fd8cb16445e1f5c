/** Why no connection comes about where TLS is the reason: told by what the driver met, and by trying the other way. */
import { connect as connectPlain } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { MongoServerSelectionError, type MongoClient } from 'mongodb';

/** Codes of Node and of OpenSSL (X509_verify_cert_error_string), each with what it says of the server's certificate. */
const CERTIFICATE = new Map([
  ['CERT_HAS_EXPIRED', "the server's certificate has expired"],
  ['CERT_NOT_YET_VALID', "the server's certificate is not valid yet"],
  ['CERT_REVOKED', "the server's certificate was revoked"],
  ['CERT_UNTRUSTED', "the server's certificate is not trusted"],
  ['CERT_SIGNATURE_FAILURE', "the server's certificate is not signed by the CA that is trusted"],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', "the server's certificate is signed by itself, and by no CA that is trusted"],
  ['SELF_SIGNED_CERT_IN_CHAIN', "the server's certificate is signed by a CA that is not trusted"],
  ['UNABLE_TO_GET_ISSUER_CERT', "the server's certificate is signed by a CA that is not trusted"],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', "the server's certificate is signed by a CA that is not trusted"],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', "the server's certificate is signed by a CA that is not trusted"],
  ['ERR_TLS_CERT_ALTNAME_INVALID', "the server's certificate is for another host name than the connection string's"],
]);

/** What a server says in an alert when it wants no part of our certificate, or of there being none. */
const REFUSED =
  /ALERT_(CERTIFICATE|BAD_CERTIFICATE|UNKNOWN_CA|UNSUPPORTED_CERTIFICATE)|CERTIFICATE_REQUIRED|TLSV1_ALERT/;

const CLIENT_REFUSED = 'the server refuses the client certificate, or that there is none (tlsCertificateKeyFile)';

/** What TLS failed by, in words that quote nothing; undefined when the error does not tell of TLS. */
export function tlsFailure(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof MongoServerSelectionError) {
    for (const { error: met } of error.reason?.servers.values() ?? []) {
      const found = tlsFailure(met);
      if (found !== undefined) return found;
    }
  }
  const code = 'code' in error ? String(error.code) : '';
  const certificate = CERTIFICATE.get(code);
  if (certificate !== undefined) return certificate;
  if (REFUSED.test(code)) return CLIENT_REFUSED;
  return tlsFailure(error.cause);
}

/** How long one host may take to answer, in milliseconds. */
const PROBE_MS = 3_000;
/** How soon a server ends a connection whose client it refuses, in milliseconds. */
const REFUSAL_MS = 1_000;

/** What the hosts of a connection string do about TLS that its options do not; undefined when nothing is found out. */
export async function tlsMismatch({ options }: MongoClient): Promise<string | undefined> {
  const answers = await Promise.all(
    options.hosts.map(async ({ host, port }) => {
      if (host === undefined || port === undefined) return undefined;
      const answer = await handshake(host, port);
      if (!options.tls) {
        return answer === 'none' ? undefined : 'the server wants TLS, and the connection string has none (tls=true)';
      }
      // The driver got no further than a stranger does.
      if (answer === 'refused') return CLIENT_REFUSED;
      if (answer === 'made') return undefined;
      return (await accepts(host, port)) ? 'the connection string wants TLS, and the server has none' : undefined;
    }),
  );
  return answers.find((answer) => answer !== undefined);
}

/**
 * A TLS handshake without a certificate of ours: `made`, `refused` by an alert or because the server then ends the
 * connection, as one does that wants a certificate of its clients; or there is `none`.
 */
async function handshake(host: string, port: number): Promise<'made' | 'refused' | 'none'> {
  return new Promise((settle) => {
    // Nothing is sent: who the server is does not matter yet.
    const socket = connectTls({ host, port, rejectUnauthorized: false, timeout: PROBE_MS });
    let made = false;
    let patience: NodeJS.Timeout | undefined;
    const end = (answer: 'made' | 'refused' | 'none'): void => {
      clearTimeout(patience);
      socket.destroy();
      settle(answer);
    };
    socket.once('secureConnect', () => {
      made = true;
      patience = setTimeout(() => end('made'), REFUSAL_MS);
    });
    socket.once('timeout', () => end(made ? 'made' : 'none'));
    socket.once('close', () => end(made ? 'refused' : 'none'));
    socket.once('error', (error: Error) => {
      end(made || ('code' in error && REFUSED.test(String(error.code))) ? 'refused' : 'none');
    });
    // Read, or its end is never noticed.
    socket.resume();
  });
}

async function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((settle) => {
    const socket = connectPlain({ host, port, timeout: PROBE_MS });
    const end = (answer: boolean): void => {
      socket.destroy();
      settle(answer);
    };
    socket.once('connect', () => end(true));
    socket.once('timeout', () => end(false));
    socket.once('error', () => end(false));
  });
}
