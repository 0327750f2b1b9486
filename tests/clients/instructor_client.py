"""instructor: an object of a pydantic type in its default mode (a function call), also in parts."""

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

parts = client.chat.completions.create_partial(
    model="gpt-4",
    response_model=Person,
    messages=[{"role": "user", "content": ask.replace("call=Person", "call=PartialPerson")}],
)
assert [part.model_dump() for part in parts][-1] == {"name": "Ada", "age": 36}
