/** A replica set that requires TLS and a login, with a user for each way to log in. */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MongoClient } from 'mongodb';
import { certificateAuthority, type Authority } from './certificates.ts';
import { startReplicaSet, until, type TestReplicaSet } from './replica-set.ts';

/** Needs escaping in a connection string, every character of it. */
export const PASSWORD = 'p@ss/wo:rd?#[1]%&';
export const X509_SUBJECT = 'CN=lifeboat,OU=backups,O=Shop';

export interface SecuredSet extends AsyncDisposable {
  readonly set: TestReplicaSet;
  readonly authority: Authority;
  /** A client certificate that nobody needs a password beside. */
  readonly clientFile: string;
  /** Connection string of a user with PASSWORD, or another one; with TLS. */
  uriOf(user: string, options?: { readonly password?: string; readonly more?: string }): string;
  /** Logs in by certificate. */
  readonly x509Uri: string;
  readonly root: MongoClient;
  /** Starts its member again after it was killed. */
  restart(): Promise<void>;
}

const roles = (names: readonly string[]): { role: string; db: string }[] =>
  names.map((role) => ({ role, db: 'admin' }));

/**
 * @param granted what the users `sha1` and `sha256` and the x.509 user may do
 * @param requireTls false leaves TLS out
 * @param extraArgs of its member, such as `--oplogSize`
 */
export async function startSecuredSet(
  name: string,
  granted: readonly string[],
  requireTls = true,
  extraArgs: readonly string[] = [],
): Promise<SecuredSet> {
  const set = await startReplicaSet({ name, extraArgs });
  try {
    const authority = await certificateAuthority(set.folder, `${name}-ca`);
    const server = await authority.issue('server', { subject: 'CN=db,OU=servers,O=Hosting', addresses: ['127.0.0.1'] });
    const clientFile = await authority.issue('client', { subject: X509_SUBJECT });
    const keyFile = join(set.folder, 'key');
    await writeFile(keyFile, randomBytes(48).toString('base64'), { mode: 0o600 });
    const admin = set.client.db('admin');
    await admin.command({ createUser: 'root', pwd: PASSWORD, roles: ['root'] });
    for (const [user, mechanism] of [
      ['sha1', 'SCRAM-SHA-1'],
      ['sha256', 'SCRAM-SHA-256'],
    ] as const) {
      await admin.command({ createUser: user, pwd: PASSWORD, roles: roles(granted), mechanisms: [mechanism] });
    }
    await set.client.db('$external').command({ createUser: X509_SUBJECT, roles: roles(granted) });
    await set.members[0]?.stop();
    const tls = ['--tlsMode', 'requireTLS', '--tlsCAFile', authority.caFile, '--tlsCertificateKeyFile', server];
    const secured = [...extraArgs, '--keyFile', keyFile, ...(requireTls ? tls : [])];
    await set.restart(0, secured);
    const options = requireTls ? `&tls=true&tlsCAFile=${authority.caFile}` : '';
    const withClient = requireTls ? `&tlsCertificateKeyFile=${clientFile}` : '';
    const uriOf: SecuredSet['uriOf'] = (user, { password = PASSWORD, more = withClient } = {}) =>
      `${set.uri.replace('mongodb://', `mongodb://${user}:${encodeURIComponent(password)}@`)}${options}${more}`;
    const root = new MongoClient(uriOf('root'), { serverSelectionTimeoutMS: 2_000 });
    await until(
      async () =>
        (await root
          .db('admin')
          .command({ hello: 1 })
          .catch(() => undefined)) !== undefined,
      `${name} has a primary again`,
    );
    return {
      set,
      authority,
      clientFile,
      uriOf,
      x509Uri: `${set.uri}${options}&tlsCertificateKeyFile=${clientFile}&authMechanism=MONGODB-X509`,
      root,
      restart: () => set.restart(0, secured),
      async [Symbol.asyncDispose]() {
        await root.close();
        await set[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await set[Symbol.asyncDispose]();
    throw error;
  }
}
