// fetch-event-source as NextChat and other pages use it: they parse every message as JSON, and what
// they throw there makes the library ask again. Asked while the answer keeps them waiting.
import assert from "node:assert";

globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

const [, , api] = process.argv;
const headers = { Authorization: "Bearer fetch-event-source", "Content-Type": "application/json" };

async function ask(fetchEventSource, content, more = {}) {
  const seen = { opened: 0, text: "", calls: [], done: false };
  const messages = [{ role: "user", content }];
  await fetchEventSource(`${api}/chat/completions`, {
    method: "POST",
    headers,
    body: JSON.stringify({ model: "gpt-4o-mini", stream: true, messages, ...more }),
    openWhenHidden: true,
    async onopen(response) {
      seen.opened += 1;
      assert.equal(response.status, 200);
    },
    onmessage(message) {
      if (message.data === "[DONE]") {
        seen.done = true;
        return;
      }
      const { delta } = JSON.parse(message.data).choices[0];
      seen.text += delta.content ?? "";
      for (const call of delta.tool_calls ?? []) {
        if (call.id) seen.calls.push({ ...call.function });
        else seen.calls.at(-1).arguments += call.function.arguments;
      }
    },
    onclose() {},
  });
  return seen;
}

const parameters = { type: "object", properties: { city: { type: "string" } } };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const call = '[[sim delay=1 call=get_weather args={"city":"Paris"}]] Will it rain?';

for (const name of ["@fortaine/fetch-event-source", "@microsoft/fetch-event-source"]) {
  const { fetchEventSource } = await import(name);
  const slow = await ask(fetchEventSource, "[[sim delay=2 words=3]]");
  assert.deepEqual(slow, { opened: 1, text: "w0 w1 w2", calls: [], done: true });
  const called = await ask(fetchEventSource, call, { tools });
  const calls = [{ name: "get_weather", arguments: '{"city":"Paris"}' }];
  assert.deepEqual(called, { opened: 1, text: "", calls, done: true });
}
