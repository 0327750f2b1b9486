// The AI SDK of Vercel: its default model (Responses) and chat, with a tool, text and an object.
import assert from "node:assert";

import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const openai = createOpenAI({ baseURL: process.argv[2], apiKey: "vercel" });
const object = (properties) =>
  jsonSchema({
    type: "object",
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
  });
const get_weather = tool({
  description: "Get the weather of a city.",
  inputSchema: object({ city: { type: "string" } }),
  execute: async ({ city }) => `rain in ${city}`,
});

for (const model of [openai("gpt-4"), openai.chat("gpt-4")]) {
  assert.equal(await streamText({ model, prompt: "[[sim words=3]]" }).text, "w0 w1 w2");
  const ask = '[[sim call=get_weather args={"city":"Paris"}]] Will it rain?';
  const asked = { model, tools: { get_weather }, stopWhen: stepCountIs(3), prompt: ask };
  const whole = await generateText(asked);
  assert.equal(whole.steps.length, 2);
  assert.match(whole.text, /rain in Paris/);
  assert.match(await streamText(asked).text, /rain in Paris/);
  const schema = object({ value: { type: "integer" } });
  const answer = await generateObject({ model, schema, prompt: '[[sim json={"value":7}]] How far?' });
  assert.deepEqual(answer.object, { value: 7 });
  // The second turn of Responses refers to the first answer by its id.
  const first = { role: "user", content: "[[sim words=2]]" };
  const said = await generateText({ model, messages: [first] });
  const second = { role: "user", content: "And now? [[sim words=4]]" };
  const messages = [first, ...said.response.messages, second];
  assert.equal((await generateText({ model, messages })).text, "w0 w1 w2 w3");
}
