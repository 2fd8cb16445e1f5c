/** What the public interface names and this version cannot do: refused, never accepted and ignored. */
const [, , name] = process.argv;
console.error(`LB1002: npm run ${name} is not built yet; CHANGELOG.md says what each version can do.`);
process.exitCode = 2;
