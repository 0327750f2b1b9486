// openai-node: chats whole and streamed, with a tool, and Responses.
import assert from "node:assert";

import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "openai-node", maxRetries: 0 });
const model = "gpt-4";
const ask = (content) => ({ model, messages: [{ role: "user", content }] });

const whole = await client.chat.completions.create(ask("[[sim words=3]]"));
assert.equal(whole.choices[0].message.content, "w0 w1 w2");
assert.ok(whole.usage.total_tokens > 0);

let text = "";
for await (const chunk of await client.chat.completions.create({
  ...ask("[[sim words=3]]"),
  stream: true,
})) {
  text += chunk.choices[0]?.delta.content ?? "";
}
assert.equal(text, "w0 w1 w2");

const city = { type: "object", properties: { city: { type: "string" } } };
const runner = client.chat.completions.runTools({
  ...ask('[[sim call=get_weather args={"city":"Paris"}]] Will it rain?'),
  stream: true,
  tools: [
    {
      type: "function",
      function: {
        name: "get_weather",
        parameters: city,
        parse: JSON.parse,
        function: ({ city }) => `rain in ${city}`,
      },
    },
  ],
});
assert.match(await runner.finalContent(), /rain in Paris/);

const response = await client.responses.create({ model, input: "[[sim words=3]]" });
assert.equal(response.output_text, "w0 w1 w2");
