"""Texts of the page, in each language. Pure."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """All texts in one language. `{}` is filled by the caller."""

    lang: str
    units: tuple[str, str, str, str]
    """Seconds, minutes, hours, days, as they follow a number."""
    name: str
    skip: str
    views: dict[str, str]
    navigation: str
    theme: str
    themes: dict[str, str]
    language: str
    sign_out: str
    live: str
    connecting: str
    not_live: str
    no_script: str
    signed_out: str
    redis_gone: str
    no_jobs: str
    # Login
    sign_in: str
    operator_name: str
    operator_name_note: str
    password: str
    login_errors: dict[str, str]
    # Overview
    running: str
    of_slots: str
    no_slots: str
    waiting: str
    oldest: str
    wait_p50: str
    wait_p95: str
    last_hour: str
    last_day: str
    tokens_per_second: str
    refusals: str
    refused_of: str
    trouble: str
    no_trouble: str
    who_waits: str
    nobody_waits: str
    all_waiting: str
    charts: str
    chart_range: str
    chart_summary: str
    chart_empty: str
    ago: str
    now: str
    slots: str
    per_minute: str
    median: str
    p95: str
    # The line
    lanes: str
    lane: str
    lane_kinds: dict[str, str]
    idle_lanes: str
    keys_waiting: str
    upstreams: str
    job: str
    key: str
    model: str
    place: str
    waited: str
    forecast: str
    why: str
    whys: dict[str, str]
    attempt: str
    running_for: str
    first_token: str
    tokens: str
    about: str
    worker: str
    account: str
    upstream: str
    jobs_waiting: str
    jobs_running: str
    none_running: str
    none_waiting: str
    of_key: str
    all_keys: str
    shown: str
    more: str
    earlier: str
    later: str
    show: str
    by_key: str
    settling: str
    next_ones: str
    by_arrival: str
    # Keys
    key_name: str
    key_id: str
    usage_today: str
    requests: str
    input_tokens: str
    output_tokens: str
    spent: str
    limits: str
    no_limits: str
    key_states: dict[str, str]
    state: str
    new_key: str
    change: str
    revoke: str
    search: str
    search_keys: str
    none_found: str
    no_keys: str
    expires: str
    issued_key: str
    issued_once: str
    fields: dict[str, str]
    field_notes: dict[str, str]
    save: str
    issue: str
    # Upstreams and accounts
    upstream_states: dict[str, str]
    account_states: dict[str, str]
    reasons: dict[str, str]
    until: str
    busy: str
    families: str
    own_accounts: str
    own_accounts_note: str
    no_accounts: str
    no_upstreams: str
    # Processes
    workers: str
    front_ends: str
    process: str
    host: str
    started: str
    version: str
    memory: str
    lag: str
    open_files: str
    streams: str
    jobs: str
    draining: str
    no_worker: str
    no_processes: str
    # Jobs
    find_job: str
    job_id: str
    endings: str
    no_endings: str
    ended: str
    ending: str
    job_states: dict[str, str]
    job_unknown: str
    story: str
    arrived: str
    story_promised: str
    story_claimed: str
    story_requeued: str
    story_first_token: str
    story_deadline: str
    duration: str
    slot_time: str
    # Audit
    time: str
    who: str
    via: str
    vias: dict[str, str]
    did: str
    target: str
    details: str
    result: str
    address: str
    no_audit: str
    # Actions
    actions: dict[str, str]
    ask: dict[str, str]
    consequences: dict[str, str]
    done: dict[str, str]
    already: str
    paused: str
    paused_what: dict[str, str]
    since: str
    by: str
    for_time: str
    durations: dict[str, str]
    back: str
    error: str
    wrong_value: str


def texts_of(language: Language) -> Texts:
    """Return the texts in a language."""
    return _TEXTS[language]


def preferred(accepted: str) -> Language:
    """Return the language that an `Accept-Language` prefers, by default English."""
    weighted: list[tuple[float, int, Language]] = []
    for number, entry in enumerate(accepted.split(",")[:20]):
        tag, _, parameters = entry.strip().partition(";")
        for language in LANGUAGES:
            if tag.lower().split("-")[0] == language:
                weighted.append((_quality(parameters), -number, language))
    return max(weighted)[2] if weighted and max(weighted)[0] > 0 else "en"


def _quality(parameters: str) -> float:
    _, given, value = parameters.replace(" ", "").partition("q=")
    try:
        return float(value) if given else 1.0
    except ValueError:
        return 0.0


_EN = Texts(
    lang="en",
    units=("s", "m", "h", "d"),
    name="pandora-line",
    skip="Skip to the content",
    views={
        "overview": "Overview",
        "line": "Line",
        "keys": "Keys",
        "upstreams": "Upstreams",
        "processes": "Processes",
        "jobs": "Jobs",
        "audit": "Audit",
    },
    navigation="Views",
    theme="Colours",
    themes={"auto": "Automatic", "light": "Light", "dark": "Dark"},
    language="Language",
    sign_out="Sign out",
    live="Live",
    connecting="Connecting…",
    not_live="Not live. Connecting again…",
    no_script="Reload for newer figures",
    signed_out="Signed out. Sign in again.",
    redis_gone="Redis is unreachable. Figures shown here are older, and nothing can be done at"
    " present. This page recovers by itself.",
    no_jobs="No jobs.",
    sign_in="Sign in",
    operator_name="Your name",
    operator_name_note="For the audit log.",
    password="Password",
    login_errors={
        "wrong_password": "The password is wrong.",
        "too_many_attempts": "Too many wrong passwords from this address. Try again later.",
    },
    running="Running",
    of_slots="of {} slots",
    no_slots="no slots: no worker runs",
    waiting="Waiting",
    oldest="oldest",
    wait_p50="Wait, median",
    wait_p95="Wait, 95 %",
    last_hour="Last hour",
    last_day="24 hours",
    tokens_per_second="Tokens per second",
    refusals="Refusals",
    refused_of="{} % of requests",
    trouble="Needs attention",
    no_trouble="Nothing: all upstreams and accounts are ready.",
    who_waits="Keys with jobs",
    nobody_waits="No key has a job.",
    all_waiting="All of the line",
    charts="History",
    chart_range="Time shown",
    chart_summary="{name}: now {now}, lowest {low}, highest {high}",
    chart_empty="{name}: nothing recorded yet",
    ago="{} ago",
    now="now",
    slots="Slots",
    per_minute="per minute",
    median="median",
    p95="95 %",
    lanes="Lanes",
    lane="Lane",
    lane_kinds={"chat": "Chats", "images": "Images", "embeddings": "Embeddings"},
    idle_lanes="{} without jobs",
    keys_waiting="Keys waiting",
    upstreams="Upstreams",
    job="Job",
    key="Key",
    model="Model",
    place="Place",
    waited="Waited",
    forecast="Forecast",
    why="Waits for",
    whys={
        "slot": "a free slot",
        "key": "its key's other jobs",
        "account": "its account",
        "cooling": "its account to cool down",
        "parked": "its parked account",
        "paused": "an operator's pause",
        "retry": "its next try",
        "circuit": "the upstream to recover",
        "no_worker": "a worker",
        "settling": "Redis to settle",
    },
    attempt="Attempt",
    running_for="Runs for",
    first_token="First token",
    tokens="Tokens",
    about="about {}",
    worker="Worker",
    account="Account",
    upstream="Upstream",
    jobs_waiting="Waiting jobs",
    jobs_running="Running jobs",
    none_running="No job runs.",
    none_waiting="No job waits.",
    of_key="of {}",
    all_keys="All keys",
    shown="{first}–{last} of {total}",
    more="and {} more",
    earlier="Previous",
    later="Next",
    show="Show",
    by_key="Keys in line",
    settling="Redis was unreachable: nothing is claimed for",
    next_ones="Those that go next.",
    by_arrival="All, by arrival",
    key_name="Name",
    key_id="Id",
    usage_today="Today",
    requests="Requests",
    input_tokens="Input tokens",
    output_tokens="Output tokens",
    spent="Spent",
    limits="Limits",
    no_limits="none",
    key_states={
        "active": "active",
        "paused": "paused",
        "expired": "expired",
        "revoked": "revoked",
    },
    state="State",
    new_key="Issue a key",
    change="Change",
    revoke="Revoke",
    search="Search",
    search_keys="Name or id of a key",
    none_found="Nothing found.",
    no_keys="No gateway key has been issued yet.",
    expires="Expires",
    issued_key="The new key",
    issued_once="Copy it now: it is shown this once, and only its hash is kept.",
    fields={
        "name": "Name",
        "expires": "Expires",
        "weight": "Weight",
        "priority": "Highest tier",
        "models": "Models",
        "max_running": "Running jobs at most",
        "max_waiting": "Waiting jobs at most",
        "requests_per_minute": "Requests per minute",
        "budget_unit": "Unit of the budgets",
        "budget_day": "Budget per day",
        "budget_month": "Budget per month",
        "max_wait": "Longest wait (seconds)",
        "notes": "Notes",
    },
    field_notes={
        "name": "Up to 100 characters. Shown to operators only.",
        "expires": "A date (YYYY-MM-DD); empty: never.",
        "weight": "Factor of its share of the slots: 2 is twice as much as 1.",
        "priority": "The highest service_tier that it may ask for.",
        "models": "Separated by commas; empty: all.",
        "max_running": "0: no limit of its own.",
        "max_waiting": "0: no limit of its own.",
        "requests_per_minute": "0: no limit.",
        "budget_unit": "",
        "budget_day": "0: no limit.",
        "budget_month": "0: no limit.",
        "max_wait": "A request with a longer forecast is refused; empty: no bound.",
        "notes": "",
    },
    save="Save",
    issue="Issue",
    upstream_states={
        "ready": "ready",
        "circuit_open": "circuit open",
        "paused": "paused",
        "refuses_us": "refuses our account",
        "no_worker": "no worker",
    },
    account_states={
        "ready": "ready",
        "full": "full",
        "cooling": "cooling down",
        "aside": "set aside",
        "parked": "parked",
        "paused": "paused",
    },
    reasons={},
    until="Until",
    busy="Busy",
    families="Parked families",
    own_accounts="Accounts of keys",
    own_accounts_note="Those that are not ready.",
    no_accounts="All accounts are ready.",
    no_upstreams="No worker has described an upstream yet.",
    workers="Workers",
    front_ends="Front ends",
    process="Process",
    host="Host",
    started="Runs for",
    version="Version",
    memory="Memory",
    lag="Loop lag",
    open_files="Open files",
    streams="Streams",
    jobs="Jobs",
    draining="draining",
    no_worker="No worker runs: nothing is answered.",
    no_processes="No process has reported yet.",
    find_job="Find a job",
    job_id="Id of a job",
    endings="Latest endings",
    no_endings="No job has finished yet.",
    ended="Ended",
    ending="Ending",
    job_states={
        "waiting": "waiting",
        "running": "running",
        "done": "done",
        "failed": "failed",
        "cancelled": "cancelled",
    },
    job_unknown="No job has this id, or it finished too long ago.",
    story="Story",
    arrived="Arrived",
    story_promised="Expected to wait",
    story_claimed="Claimed by a worker",
    story_requeued="Back in line",
    story_first_token="First token",
    story_deadline="Deadline of its wait",
    duration="Duration",
    slot_time="Slot time",
    time="Time",
    who="Operator",
    via="By",
    vias={"page": "page", "api": "API", "terminal": "terminal"},
    did="Action",
    target="Of",
    details="Details",
    result="Result",
    address="Address",
    no_audit="No operator has done anything yet.",
    actions={
        "cancel": "Cancel",
        "pause": "Pause",
        "resume": "Resume",
        "drain": "Drain",
        "park": "Park",
        "wake": "Wake",
        "issue": "Issue a key",
        "change": "Change",
        "revoke": "Revoke",
        "pause_all": "Pause intake",
        "resume_all": "Resume intake",
    },
    ask={
        "cancel": "Cancel this job?",
        "pause_all": "Pause the intake of all requests?",
        "pause_key": "Pause the intake of a key?",
        "pause_upstream": "Pause an upstream?",
        "pause_account": "Park an account?",
        "drain": "Drain this worker?",
        "revoke": "Revoke this key?",
    },
    consequences={
        "cancel": "Its client gets an error that says so. This cannot be undone.",
        "pause_all": "New requests are refused with 503 and a Retry-After. Waiting jobs keep their"
        " places and are served.",
        "pause_key": "New requests of this key are refused with 503 and a Retry-After. Its waiting"
        " jobs keep their places and are served.",
        "pause_upstream": "It gets no more jobs; running ones finish.",
        "pause_account": "It gets no more jobs until it is woken; running ones finish.",
        "drain": "It claims no more jobs, finishes those it has, and exits.",
        "revoke": "It is refused at once and for all. Its waiting jobs end. This cannot be undone.",
    },
    done={
        "cancel": "The job is cancelled.",
        "pause": "Paused.",
        "resume": "Resumed.",
        "drain": "The worker drains.",
        "park": "The account is parked.",
        "wake": "The account is woken.",
        "change": "The key is changed.",
        "revoke": "The key is revoked.",
    },
    already="It was so already.",
    paused="paused",
    paused_what={
        "all": "Intake is paused",
        "key": "Key {} is paused",
        "upstream": "Upstream {} is paused",
        "account": "Account {} is paused",
    },
    since="since",
    by="by {}",
    for_time="For",
    durations={
        "0": "until it is resumed",
        "300": "5 minutes",
        "900": "15 minutes",
        "3600": "1 hour",
        "86400": "24 hours",
    },
    back="Back",
    error="Error",
    wrong_value="{}: this value cannot be read.",
)

_ZH = Texts(
    lang="zh-CN",
    units=("秒", "分", "小时", "天"),
    name="pandora-line",
    skip="跳到内容",
    views={
        "overview": "总览",
        "line": "队列",
        "keys": "Key",
        "upstreams": "上游",
        "processes": "进程",
        "jobs": "任务",
        "audit": "审计",
    },
    navigation="页面",
    theme="配色",
    themes={"auto": "自动", "light": "浅色", "dark": "深色"},
    language="语言",
    sign_out="退出登录",
    live="实时",
    connecting="正在连接…",
    not_live="并非实时，正在重新连接…",
    no_script="刷新页面可看到最新数据",
    signed_out="已退出，请重新登录。",
    redis_gone="无法连接 Redis。这里显示的是之前的数据，暂时无法执行操作。恢复后本页会自动更新。",
    no_jobs="没有任务。",
    sign_in="登录",
    operator_name="你的名字",
    operator_name_note="会写入审计记录。",
    password="密码",
    login_errors={
        "wrong_password": "密码错误。",
        "too_many_attempts": "这个地址输错密码的次数太多，请稍后再试。",
    },
    running="运行中",
    of_slots="共 {} 个槽位",
    no_slots="没有槽位：没有 worker 在运行",
    waiting="等待中",
    oldest="最久",
    wait_p50="等待时间（中位数）",
    wait_p95="等待时间（95%）",
    last_hour="最近一小时",
    last_day="24 小时",
    tokens_per_second="每秒 token 数",
    refusals="拒绝",
    refused_of="占请求的 {}%",
    trouble="需要注意",
    no_trouble="一切正常：所有上游和账号均可用。",
    who_waits="有任务的 key",
    nobody_waits="没有 key 有任务。",
    all_waiting="查看整个队列",
    charts="历史",
    chart_range="时间范围",
    chart_summary="{name}：当前 {now}，最低 {low}，最高 {high}",
    chart_empty="{name}：尚无记录",
    ago="{}前",
    now="现在",
    slots="槽位",
    per_minute="每分钟",
    median="中位数",
    p95="95%",
    lanes="通道",
    lane="通道",
    lane_kinds={"chat": "对话", "images": "图片", "embeddings": "嵌入"},
    idle_lanes="另有 {} 个没有任务",
    keys_waiting="等待的 key",
    upstreams="上游",
    job="任务",
    key="Key",
    model="模型",
    place="位置",
    waited="已等待",
    forecast="预计还需",
    why="正在等",
    whys={
        "slot": "空闲槽位",
        "key": "同一 key 的其他任务",
        "account": "自己的账号",
        "cooling": "账号冷却结束",
        "parked": "账号额度恢复",
        "paused": "运维人员恢复",
        "retry": "下一次重试",
        "circuit": "上游恢复",
        "no_worker": "worker 启动",
        "settling": "Redis 稳定",
    },
    attempt="尝试",
    running_for="已运行",
    first_token="首个 token",
    tokens="Token",
    about="约 {}",
    worker="Worker",
    account="账号",
    upstream="上游",
    jobs_waiting="等待的任务",
    jobs_running="运行的任务",
    none_running="没有任务在运行。",
    none_waiting="没有任务在等待。",
    of_key="key {}",
    all_keys="所有 key",
    shown="第 {first}–{last} 个，共 {total} 个",
    more="另有 {} 个",
    earlier="上一页",
    later="下一页",
    show="查看",
    by_key="排队的 key",
    settling="Redis 刚刚中断过，暂不领取任务，还需",
    next_ones="接下来的任务。",
    by_arrival="按到达顺序查看全部",
    key_name="名称",
    key_id="ID",
    usage_today="今日",
    requests="请求",
    input_tokens="输入 token",
    output_tokens="输出 token",
    spent="已用",
    limits="限制",
    no_limits="无",
    key_states={"active": "有效", "paused": "已暂停", "expired": "已过期", "revoked": "已吊销"},
    state="状态",
    new_key="签发 key",
    change="修改",
    revoke="吊销",
    search="搜索",
    search_keys="key 的名称或 ID",
    none_found="没有找到。",
    no_keys="还没有签发过 key。",
    expires="过期时间",
    issued_key="新的 key",
    issued_once="请立即复制：它只显示这一次，网关只保存它的哈希。",
    fields={
        "name": "名称",
        "expires": "过期时间",
        "weight": "权重",
        "priority": "最高等级",
        "models": "模型",
        "max_running": "最多同时运行的任务",
        "max_waiting": "最多等待的任务",
        "requests_per_minute": "每分钟请求数",
        "budget_unit": "预算单位",
        "budget_day": "每日预算",
        "budget_month": "每月预算",
        "max_wait": "最长等待（秒）",
        "notes": "备注",
    },
    field_notes={
        "name": "最多 100 个字符，只有运维人员能看到。",
        "expires": "日期（YYYY-MM-DD）；留空表示永不过期。",
        "weight": "所占槽位的比重：2 是 1 的两倍。",
        "priority": "它可以请求的最高 service_tier。",
        "models": "用逗号分隔；留空表示全部。",
        "max_running": "0：没有单独的限制。",
        "max_waiting": "0：没有单独的限制。",
        "requests_per_minute": "0：不限制。",
        "budget_unit": "",
        "budget_day": "0：不限制。",
        "budget_month": "0：不限制。",
        "max_wait": "预计等待更久的请求会被拒绝；留空表示不限制。",
        "notes": "",
    },
    save="保存",
    issue="签发",
    upstream_states={
        "ready": "可用",
        "circuit_open": "已熔断",
        "paused": "已暂停",
        "refuses_us": "拒绝我们的账号",
        "no_worker": "没有 worker",
    },
    account_states={
        "ready": "可用",
        "full": "已满",
        "cooling": "冷却中",
        "aside": "已搁置",
        "parked": "已停用",
        "paused": "已暂停",
    },
    reasons={},
    until="直到",
    busy="占用",
    families="停用的模型类别",
    own_accounts="各 key 自己的账号",
    own_accounts_note="只列出不可用的账号。",
    no_accounts="所有账号均可用。",
    no_upstreams="还没有 worker 上报过上游。",
    workers="Worker",
    front_ends="前端",
    process="进程",
    host="主机",
    started="已运行",
    version="版本",
    memory="内存",
    lag="循环延迟",
    open_files="打开的文件",
    streams="流",
    jobs="任务",
    draining="正在退出",
    no_worker="没有 worker 在运行：请求得不到回答。",
    no_processes="还没有进程上报。",
    find_job="查找任务",
    job_id="任务 ID",
    endings="最近结束的任务",
    no_endings="还没有任务结束。",
    ended="结束于",
    ending="结果",
    job_states={
        "waiting": "等待中",
        "running": "运行中",
        "done": "已完成",
        "failed": "失败",
        "cancelled": "已取消",
    },
    job_unknown="没有这个 ID 的任务，或者它结束得太久了。",
    story="经过",
    arrived="到达",
    story_promised="预计等待",
    story_claimed="worker 领取",
    story_requeued="回到队列",
    story_first_token="首个 token",
    story_deadline="等待期限",
    duration="用时",
    slot_time="占用槽位时间",
    time="时间",
    who="运维人员",
    via="途径",
    vias={"page": "页面", "api": "API", "terminal": "终端"},
    did="操作",
    target="对象",
    details="详情",
    result="结果",
    address="地址",
    no_audit="还没有任何操作。",
    actions={
        "cancel": "取消",
        "pause": "暂停",
        "resume": "恢复",
        "drain": "退出",
        "park": "停用",
        "wake": "唤醒",
        "issue": "签发 key",
        "change": "修改",
        "revoke": "吊销",
        "pause_all": "暂停接收",
        "resume_all": "恢复接收",
    },
    ask={
        "cancel": "取消这个任务？",
        "pause_all": "暂停接收所有请求？",
        "pause_key": "暂停接收一个 key 的请求？",
        "pause_upstream": "暂停一个上游？",
        "pause_account": "停用一个账号？",
        "drain": "让这个 worker 退出？",
        "revoke": "吊销这个 key？",
    },
    consequences={
        "cancel": "它的客户端会收到说明原因的错误。此操作无法撤销。",
        "pause_all": "新请求会被拒绝（503，附 Retry-After）。等待中的任务保留位置并继续得到服务。",
        "pause_key": "这个 key 的新请求会被拒绝（503，附 Retry-After）。"
        "它等待中的任务保留位置并继续得到服务。",
        "pause_upstream": "它不再得到任务；运行中的任务会完成。",
        "pause_account": "在唤醒之前，它不再得到任务；运行中的任务会完成。",
        "drain": "它不再领取任务，完成手上的任务后退出。",
        "revoke": "它会立即并永久被拒绝，等待中的任务会结束。此操作无法撤销。",
    },
    done={
        "cancel": "任务已取消。",
        "pause": "已暂停。",
        "resume": "已恢复。",
        "drain": "worker 正在退出。",
        "park": "账号已停用。",
        "wake": "账号已唤醒。",
        "change": "key 已修改。",
        "revoke": "key 已吊销。",
    },
    already="之前已经如此。",
    paused="已暂停",
    paused_what={
        "all": "已暂停接收请求",
        "key": "key {} 已暂停",
        "upstream": "上游 {} 已暂停",
        "account": "账号 {} 已停用",
    },
    since="自",
    by="操作者 {}",
    for_time="时长",
    durations={
        "0": "直到恢复",
        "300": "5 分钟",
        "900": "15 分钟",
        "3600": "1 小时",
        "86400": "24 小时",
    },
    back="返回",
    error="错误",
    wrong_value="{}：无法读取这个值。",
)

_TEXTS: dict[Language, Texts] = {"en": _EN, "zh": _ZH}
