// Follows what is given by npm's graphql-sse, and prints each result on a line: URL, token, query, variables.
import { createClient } from "graphql-sse";

const [url, token, query, variables] = process.argv.slice(2);
const client = createClient({ url, headers: { Authorization: `Bearer ${token}` }, retryAttempts: 0 });
try {
    for await (const result of client.iterate({ query, variables: JSON.parse(variables) })) {
        console.log(JSON.stringify(result));
    }
    console.log("complete");
} catch (error) {
    console.log(`failed: ${error.message}`);
}
