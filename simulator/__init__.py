"""A stand-in for a Pandora-Next server: the ChatGPT web `backend-api`, scripted.

Start it with `python -m simulator --port 8181`, or inside a process with `simulator.server.serve`.
It asks no model. It keeps the real one's manners: the wire format, one message at a time per
account (the account is the bearer), a cap in all, and the real error bodies.

    POST  {prefix}/backend-api/conversation        a conversation, answered as a stream of events
    PATCH {prefix}/backend-api/conversation/{id}   {"success": true}, or 404 for an unknown id
    GET   /simulator/stats                         counters, see below
    POST  /simulator/script                        what to answer from now on
    POST  /simulator/reset                         counters to zero, all scripts forgotten

What it answers is a script. The first of these that exists is used:

1. a directive anywhere in the text of the last user message: `[[sim words=100 interval=0.01]]`;
2. the script posted for this bearer: `{"words": 100, "bearer": "the-token"}`;
3. the script posted for everyone: `{"words": 100}`;
4. a friendly sample answer, in Chinese when the prompt has Chinese characters.

A posted script may carry `"times": n`: it serves the next n accepted conversations and is then
forgotten. An unknown or ill-typed key is refused with 400 and a sentence that names it.
Switches take 0 or 1. All times are seconds.

The answer:
    words=12       so many numbered words, `w0 w1 w2 ...`, one word per event
    text="..."     exactly this text instead (posted scripts only)
    echo=1         instead: the last user message without the directive, stripped
    step=4         characters per event of `text` and `echo`
    finish=stop    or max_tokens or interrupted: the type of `finish_details`
    block=prompt   or completion: that moderation event says flagged and blocked
    error=NAME     answer with this HTTP error at once (`simulator.errors.ErrorName` lists them)
    clears_in=13078  the seconds named by error=cap

The pace:
    delay=0.05     before the first event; the response headers go out before it
    interval=0.02  between text events, and around them (first event, finished events)
    burst=1        so many text events in one write, at the same mean pace
    ping=0         a ping after so many seconds without an event, two shapes in turn; 0 = none

The wire:
    echoes=1       the system and the user message come first, as in a new conversation
    title=1        a title_generation event at the end
    empty_at=N     after N text events come two with empty parts: `[""]` and `[]`
    crlf=1         CRLF line ends
    raw=1          UTF-8 as it is, not as ASCII escapes
    pad=N          `metadata.pad` of varying length, at most N

The faults:
    fault=cut at=K            the connection closes after K bytes of body, in mid event or not
    fault=no_done             the stream ends cleanly, without `[DONE]`
    fault=done_unfinished     `[DONE]` without any finished event
    fault=unfinished_eof      neither finished events nor `[DONE]`
    fault=only_finished       no text before the finished events
    fault=error_before        an error event instead of any message, then `[DONE]`
    fault=error_after         the same after half of the text events
    fault=silence at_word=N   nothing but pings after N text events; with 0 nothing after headers
    fault=hang                the POST is accepted and never answered, not even headers
    fault=reset               the TCP connection is reset without an answer

The counters: `active` conversations now, `peak` the most at once, `peak_per_account` the most at
once for any one account, `started` (accepted), `finished` (ran to the scripted end, faults
included), `aborted` (the client left first), `refused` (by a cap; an obedient client sees none),
`errors` (answers to `error=NAME`, which take no slot) and `accounts` (different bearers so far).
A conversation is active from its accepted POST until its last bytes are about to be written, so a
client that has read the end can start the next one at once.
"""
