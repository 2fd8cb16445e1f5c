/** Real certificates for servers and clients, made where a test needs them. */
import { webcrypto } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
// What @peculiar/x509 is built on wants it loaded first.
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 86_400_000;

export interface CertificateOptions {
  /** Such as `CN=lifeboat,OU=backups,O=Shop`; as it is written, it is the name of the x.509 user. */
  readonly subject: string;
  /** IP addresses that a server is reached by; none for a client. */
  readonly addresses?: readonly string[];
  /** When it expires; in a day when left out. */
  readonly expires?: Date;
}

export interface Authority {
  /** Path of its own certificate. */
  readonly caFile: string;
  /** Makes a certificate; the path of a file with it and its private key, as mongod and the driver take it. */
  issue(name: string, options: CertificateOptions): Promise<string>;
}

async function keyPair(): Promise<CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function pemOf(key: CryptoKey): Promise<string> {
  const bytes = await webcrypto.subtle.exportKey('pkcs8', key);
  return x509.PemConverter.encode(bytes, 'PRIVATE KEY');
}

type CryptoKeyPair = x509.X509CertificateCreateSelfSignedParams['keys'];
type CryptoKey = CryptoKeyPair['privateKey'];

/** A certificate authority with files in `folder`. */
export async function certificateAuthority(folder: string, name: string): Promise<Authority> {
  const keys = await keyPair();
  const issuer = `CN=${name}`;
  const self = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: issuer,
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + DAY_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  const caFile = join(folder, `${name}.pem`);
  await writeFile(caFile, self.toString('pem'));
  let serial = 1;
  return {
    caFile,
    async issue(file, { subject, addresses = [], expires = new Date(Date.now() + DAY_MS) }) {
      const own = await keyPair();
      serial += 1;
      const certificate = await x509.X509CertificateGenerator.create({
        serialNumber: serial.toString(16).padStart(2, '0'),
        // The order of a name's parts in a certificate is the reverse of how it is written.
        subject: subject.split(',').toReversed().join(','),
        issuer,
        notBefore: new Date(Date.now() - 2 * DAY_MS),
        notAfter: expires,
        signingKey: keys.privateKey,
        publicKey: own.publicKey,
        signingAlgorithm: ALGORITHM,
        extensions: [
          new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
          ...(addresses.length === 0
            ? []
            : [new x509.SubjectAlternativeNameExtension(addresses.map((value) => ({ type: 'ip', value })))]),
        ],
      });
      const path = join(folder, `${file}.pem`);
      await writeFile(path, `${certificate.toString('pem')}\n${await pemOf(own.privateKey)}\n`, { mode: 0o600 });
      return path;
    },
  };
}
