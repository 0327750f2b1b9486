"""instructor: an object of a pydantic type out of a chat, in its default mode (a function call)."""

from __future__ import annotations

import sys

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """A person that the text mentions."""

    name: str
    age: int


client = instructor.from_openai(OpenAI(base_url=sys.argv[1], api_key="instructor"))
ask = '[[sim call=Person args={"name":"Ada","age":36}]] Ada is 36 years old.'
person = client.chat.completions.create(
    model="gpt-4", response_model=Person, messages=[{"role": "user", "content": ask}]
)
assert person.model_dump() == {"name": "Ada", "age": 36}
