"""A stand-in for a Pandora-Next server: the ChatGPT web `backend-api`, scripted.

Start it with `python -m simulator --port 8181`, or inside a process with `simulator.server.serve`.
It asks no model. It keeps the real one's manners: the wire format, one message at a time per
account (the account is the bearer), a cap in all, and the real error bodies.

    POST  {prefix}/backend-api/conversation        a conversation, answered as a stream of events
    PATCH {prefix}/backend-api/conversation/{id}   {"success": true}, or 404 for an unknown id
    GET   .../conversation/{id}/interpreter/download?message_id=&sandbox_path=
    POST  .../stop_conversation                    ends an answer that goes over a socket
    POST  .../files, .../files/{id}/uploaded       first and third step of an upload
    GET   .../files/{id}, .../files/{id}/download  its state; the address of its bytes
    GET   .../gizmos/{id}                          any id that begins with `g-`
    POST  .../register-websocket                   the address of the account's socket
    POST  {prefix}/api/arkose/token                form `type=gpt-4`
    GET   /simulator/stats                         counters, see below
    GET   /simulator/files                         every file: id, owner, name, size, sha256, ...
    POST  /simulator/script                        what to answer from now on
    POST  /simulator/gate                          opens the gates of all answers
    POST  /simulator/reset                         counters to zero, scripts and files forgotten

Upload and download addresses and sockets are on hosts of their own, as in reality: here a second
port of the same process (`--side-port`, free by default), under the host name the client used.

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
    gate=N         after N text events the answer waits until somebody opens the gate
    linger=0       the turn goes on for so many seconds after its client has left, and keeps its
                   account busy; not over a socket
    ping=0         a ping after so many seconds without an event, two shapes in turn; 0 = none

The wire:
    echoes=1       the system and the user message come first, as in a new conversation
    title=1        a title_generation event at the end
    empty_at=N     after N text events come two with empty parts: `[""]` and `[]`
    crlf=1         CRLF line ends
    raw=1          UTF-8 as it is, not as ASCII escapes
    pad=N          `metadata.pad` of varying length, at most N

The tools. `text`, `words` and `echo` say the text after the tool's work, as without a tool:
    tool=python    code and its output, then the text: [[sim tool=python images=2]]
    tool=browser   search, mclick, quoted pages, cited text: [[sim tool=browser citations=3]]
    tool=dalle     a request and its images: [[sim tool=dalle images=4 calls=2 as=text]]
    tool=files     open_url of the attached document, msearch, text: [[sim tool=files citations=1]]
    tool=action    a GPT's action that asks for leave: [[sim tool=action calls=2]]
    opening=1      a text message before the tool's work
    messages=N     the text so many times, each a message of its own: [[sim messages=2 words=3]]
    early=1        `end_turn` is true on all of them, not only on the last
    work=SECONDS   how long a tool works, with pings only: [[sim tool=dalle work=3 ping=1]]
    calls=1        rounds of python, DALL-E or action; the images are spread over them
    images=N       images of python (default 0) or DALL-E (default one a call), 640x480 or 1024x1024
    as=code        or text: the content type of DALL-E's request
    code=...       the code or request instead of the usual one (spaces in posted scripts only)
    output=...     python's output or the action's answer: [[sim tool=python output=42]]
    crash=NAME     exception (a traceback), timeout, or system (a system_error message)
    link=PATHS     sandbox links after the text: [[sim tool=python link=/mnt/data/a.csv]]
                   (several with commas). png, csv, pdf, txt and json are what their names say; any
                   `(sandbox:...)` link in a text can be downloaded
    size=N         bytes of each made file, streamed: [[sim tool=dalle size=80000000]]
    citations=N    facts with markers `【6†source】`, `【7†source】`, ... after the text
    marker=source  the word in them: [[sim tool=browser citations=1 marker=来源]]
    cite=now       when `metadata.citations` lists a marker: with the event that completes it; late
                   (finished events only), never, no_extra (`extra` null), invalid (no metadata)
    policy=1       DALL-E refuses: the tool's text instead of images
    confirm=0      actions run without asking
    consequential=1  they do not offer `always_allow`

A posted script may compose a turn of steps instead (`simulator.steps` has them and their fields):

    {"steps": [{"step": "text", "text": "Let me see."},
               {"step": "code", "text": "print(1)"},
               {"step": "output", "text": "1", "images": 1, "pause": 0.5},
               {"step": "text", "pieces": ["A fact\u3010", "6\u2020source\u3011."], "cite": "now"}]}

The steps are text, code, output, display, quote, pictures, told, ask and raw (any event as posted).
A turn ends at `ask`; what comes after it is sent when the client has confirmed. Confirming is the
POST with `jit_plugin_data`: it must name the message that asked, as `target_message_id` and as
`parent_message_id`, and for `always_allow` the `operation_hash`; after that nothing is asked any
more. `deny` ends with a text. The conversation's first script serves its confirmations, too.

The later encoding:
    v1=1           differences instead of whole events: [[sim v1=1 tool=python]]

What the client must send. Always checked, with 422 and a validation body: `conversation_mode` of
model `gpt-4-gizmo`; attachments and images are files that this bearer has uploaded in all three
steps, with their right size. By script, with 403 as upstream:
    arkose=1       an unspent token of ours in body and header: [[sim arkose=1]]

The account. These keys also work in advance, from a posted script for the bearer (or for everyone),
where something happens before or beside a conversation:
    account=sse    or websocket: the POST is answered with JSON and the events go over the socket,
                   as soon as the account has one (at most 10 s later): [[sim account=websocket]]
                   A client's own end does not end such an answer; `stop_conversation` does. A
                   reliable connection that leaves 1000 frames unacknowledged is cut off for good
    strangers=N    before each frame N of other responses; with 2, one says their `[DONE]`
    frame=N        so many bytes of the body in a frame, instead of one event: [[sim frame=7]]
    socket=drop at_frame=N   the connection breaks before frame N (counted from 0) and can come back
    socket=close at_frame=N  it is closed and forgotten, and coming back is refused with 1008
    socket=refuse  connecting is refused (posted only, as the next ones)
    register=html  or 404, or nowhere (`wss_url` is null, in the POST's answer, too)
    upload=error   the first step says `status: error`; 403: it answers 403; put: the PUT does;
                   uploaded: the third step says `status: error`
    index=2        polls of a `my_files` file before it is indexed
    gizmo=404      or html
    token=empty    or html or 500: the Arkose endpoint (posted for everyone only)

The files that a turn makes:
    download=error  `.../download` says `status: error`; 403, 404, 410, 500: it answers so
    blob=403       or 404 or 500: the bytes are refused; cut: they end early; stall: they stop
    sandbox=expired  `ace_pod_expired`, as always with `history_and_training_disabled`; 404, 500

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
included), `aborted` (the client left first), `orphans` (of those, the ones that lingered),
`refused` (by a cap; an obedient client sees none), `refused_for_orphans` (because a turn lingers),
`errors` (answers to `error=NAME`, which take no slot) and `accounts` (different bearers so far).
Beside conversations: `uploads` (all three steps), `downloads` (whole files sent), `sandbox`
(addresses of sandbox files given), `patched` (PATCHes of known conversations), `hidden`
(conversations hidden by one), `arkose` (tokens given), `gizmos` (infos given), `confirmations`,
`registered` (socket addresses asked for), `sockets` (opened), `reconnects`, `acks`, `stopped`, and
`invalid` (requests refused for what they refer to).
A conversation is active from its accepted POST until its last bytes are about to be written, so a
client that has read the end can start the next one at once.
"""
