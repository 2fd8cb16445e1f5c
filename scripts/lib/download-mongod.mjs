/** `node download-mongod.mjs FOLDER VERSION`: the vendor's mongod for this platform; prints its path. */
process.env.MONGOMS_MAX_RETRIES = '0';
const { MongoBinary } = await import('mongodb-memory-server-core');

const [, , downloadDir, version] = process.argv;
try {
  console.log(await MongoBinary.getPath({ version, downloadDir, checkMD5: true }));
} catch (error) {
  console.error(error.message.replaceAll('\n', ' '));
  process.exitCode = 1;
}
