/**
 * A stand-in for `mongosh`, which machines with the tests need not have: runs the one expression of `--eval` by the driver.
 * It knows what the documents use and nothing else: commands of databases, a few methods of collections and of `rs`.
 */
import { inspect, parseArgs } from 'node:util';
import { runInNewContext } from 'node:vm';
import { MongoClient, type Collection, type Db, type Document } from 'mongodb';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { port: { type: 'string' }, eval: { type: 'string' }, quiet: { type: 'boolean' } },
});
const uri = positionals[0] ?? `mongodb://127.0.0.1:${values.port ?? '27017'}/?directConnection=true`;
const client = await MongoClient.connect(uri);
const admin = client.db('admin');

/** `db.runCommand(…).md5` looks into the answer before it is there. */
function later(answer: Promise<Document>): unknown {
  return new Proxy(answer, {
    get(promise, name) {
      if (name === 'then') return promise.then.bind(promise);
      return promise.then((document) => document[String(name)] as unknown);
    },
  });
}

function shellDb(db: Db): object {
  const methods = {
    adminCommand: (command: Document) => later(admin.command(command)),
    runCommand: (command: Document) => later(db.command(command)),
    getSiblingDB: (name: string) => shellDb(client.db(name)),
    createUser: ({ user, ...rest }: Document) => later(db.command({ createUser: user as string, ...rest })),
  };
  return new Proxy(methods, {
    get(target, name) {
      return name in target ? target[name as keyof typeof target] : shellCollection(db.collection(String(name)));
    },
  });
}

function shellCollection(collection: Collection): object {
  return {
    countDocuments: () => collection.countDocuments(),
    createIndex: (keys: Record<string, 1>) => collection.createIndex(keys),
    insertMany: (documents: Document[]) => later(collection.insertMany(documents)),
    updateMany: (filter: Document, change: Document) => later(collection.updateMany(filter, change)),
  };
}

const rs = {
  initiate: (config: Document) => admin.command({ replSetInitiate: config }),
  async add(host: string) {
    const { config } = (await admin.command({ replSetGetConfig: 1 })) as {
      config: { version: number; members: Document[] };
    };
    const members = [...config.members, { _id: config.members.length, host }];
    return admin.command({ replSetReconfig: { ...config, version: config.version + 1, members } });
  },
  async printReplicationInfo() {
    const oplog = client.db('local').collection('oplog.rs');
    const [first, last] = await Promise.all(
      ([1, -1] as const).map((order) => oplog.findOne({}, { sort: { $natural: order } })),
    );
    return { first: first?.['wall'] as unknown, last: last?.['wall'] as unknown };
  },
};

try {
  const answer: unknown = await runInNewContext(values.eval ?? '', { db: shellDb(client.db('test')), rs, Array });
  process.stdout.write(`${inspect(answer, { depth: 5 })}\n`);
} finally {
  await client.close();
}
