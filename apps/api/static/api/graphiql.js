// The page at /graphql: GraphiQL where its files have come, a plain form until then, or for good.
"use strict";

(() => {
    const { endpoint, stream, csrf, query: firstQuery } = document.body.dataset;
    const plain = document.getElementById("plain");
    const editor = document.getElementById("query");
    const answer = document.getElementById("answer");
    let choose = (query) => { editor.value = query; };

    const ask = async (body) => {
        const response = await fetch(endpoint, {
            method: "POST",
            credentials: "same-origin",
            headers: { "Content-Type": "application/json", "X-CSRFToken": csrf },
            body: JSON.stringify(body),
        });
        return response.json();
    };

    // What graphiql takes for an observable. The browser goes on by itself where the connection is cut.
    const follow = ({ query, variables, operationName }) => ({
        subscribe: ({ next, error, complete }) => {
            const address = new URL(stream);
            address.searchParams.set("query", query);
            address.searchParams.set("variables", JSON.stringify(variables || {}));
            if (operationName) { address.searchParams.set("operationName", operationName); }
            const source = new EventSource(address, { withCredentials: true });
            source.addEventListener("next", (event) => next(JSON.parse(event.data)));
            source.addEventListener("complete", () => { source.close(); complete(); });
            source.addEventListener("error", () => {
                if (source.readyState === EventSource.CLOSED) { error(new Error("The stream did not open.")); }
            });
            return { unsubscribe: () => source.close() };
        },
    });

    plain.querySelector("form").addEventListener("submit", async (event) => {
        event.preventDefault();
        answer.textContent = "…";
        try {
            answer.textContent = JSON.stringify(await ask({ query: editor.value }), null, 2);
        } catch (error) {
            answer.textContent = `The server did not answer: ${error.message}`;
        }
    });
    for (const button of document.querySelectorAll("[data-example]")) {
        button.addEventListener("click", () => choose(button.dataset.example));
    }

    // Its editors have no names, and what they scroll is not reached by the keyboard.
    const nameEditors = () => {
        for (const field of document.querySelectorAll("#graphiql .CodeMirror textarea:not([aria-label])")) {
            field.setAttribute("aria-label", field.readOnly ? "Answer" : field.closest(".graphiql-query-editor") ? "Query" : "Variables");
        }
        for (const part of document.querySelectorAll("#graphiql .CodeMirror-scroll:not([tabindex='0'])")) part.tabIndex = 0;
    };

    const mount = () => {
        if (!window.React || !window.ReactDOM || !window.GraphiQL) {
            plain.hidden = false;
            document.getElementById("missing").hidden = false;
            return;
        }
        plain.hidden = true;
        const fetcher = ({ query, variables, operationName }) => {
            // GraphiQL notices late that another query has come: it may name an operation of the one before, and its
            // parsed document is of that one too. So the text says what is asked for.
            const named = operationName
                && query.match(new RegExp(`\\b(query|mutation|subscription)\\s+${operationName}\\b`));
            const body = { query, variables, ...(named ? { operationName } : {}) };
            const kind = named ? named[1] : query.match(/^(?:[\s,]|#[^\n]*\n)*(\w*)/)[1];
            return kind === "subscription" ? follow(body) : ask(body);
        };
        const root = ReactDOM.createRoot(document.getElementById("graphiql"));
        let written = firstQuery;
        const draw = (query) => ReactDOM.flushSync(() => root.render(React.createElement(GraphiQL, {
            fetcher,
            query,
            isHeadersEditorEnabled: false,
            onEditQuery: (text) => { written = text; },
        })));
        draw(firstQuery);
        nameEditors();
        new MutationObserver(nameEditors).observe(document.getElementById("graphiql"), { childList: true, subtree: true });
        choose = (query) => {
            // GraphiQL takes a query only where it differs from the one that it was given before.
            draw(written);
            draw(query);
            written = query;
        };
    };

    // What is slow to come, or never comes, keeps nobody from asking.
    const patience = setTimeout(() => { plain.hidden = false; }, 1500);
    window.addEventListener("load", () => {
        clearTimeout(patience);
        mount();
    });
})();
