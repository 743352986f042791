// Audits the server at the address that is given, as graphql-http does, and prints a list of [id, name, status, reason].
import { auditServer } from "graphql-http";

const results = await auditServer({ url: process.argv[2] });
console.log(JSON.stringify(results.map((one) => [one.id, one.name, one.status, one.reason ?? ""])));
