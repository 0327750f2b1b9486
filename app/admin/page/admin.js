// Keeps the page up to date: the server renders its regions again when the board has changed, and
// sends those that differ. They are put in place node by node, so that focus, scroll position, open
// details and half-written fields stay. Without this script the page shows the time of its loading.
'use strict'

const SILENCE = 12_000 // ms without a message after which the connection is taken for dead
const PAUSE = 3_000 // ms between two attempts to connect

const page = document.body.dataset
const live = document.getElementById('live')
const units = document.documentElement.dataset.units.split(' ')
let source = null
let skew = 0 // ms by which the clock of the server is ahead
let watch = 0
let retry = 0

function show(state) {
  if (live.dataset.state === state) return // a screen reader announces changes
  live.dataset.state = state
  live.className = state === 'live' ? 'on' : state === 'connecting' ? '' : 'off'
  live.textContent = page[state]
}

function connect() {
  disconnect()
  source = new EventSource(page.stream)
  source.addEventListener('regions', (event) => {
    const { at, regions } = JSON.parse(event.data)
    skew = at * 1000 - Date.now()
    for (const [id, html] of Object.entries(regions)) update(id, html)
    tick()
    show('live')
    alive()
  })
  source.addEventListener('signed_out', () => {
    disconnect()
    show('signedOut')
  })
  source.addEventListener('error', lost)
  alive()
}

function disconnect() {
  source?.close()
  source = null
  clearTimeout(watch)
  clearTimeout(retry)
}

function lost() {
  disconnect()
  show('notLive')
  retry = setTimeout(connect, PAUSE)
}

function alive() {
  clearTimeout(watch)
  watch = setTimeout(lost, SILENCE)
}

function update(id, html) {
  const region = document.getElementById(id)
  if (!region) return
  const focused = document.activeElement
  const fresh = document.createElement('template')
  fresh.innerHTML = html
  children(region, fresh.content)
  // An element that has moved has lost the focus.
  if (focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true })
  }
}

const nameOf = (node) => node.nodeType === 1 ? node.dataset.key ?? node.id : ''
const fits = (one, other) => one.nodeName === other.nodeName && nameOf(one) === nameOf(other)

// Make the children of an element those of another one, and keep those that are about the same.
function children(present, wanted) {
  const named = new Map()
  for (const node of present.childNodes) if (nameOf(node)) named.set(nameOf(node), node)
  const nodes = [...wanted.childNodes]
  const names = new Set(nodes.map(nameOf))
  for (const [name, node] of named) if (!names.has(name)) node.remove()
  let next = present.firstChild
  for (const node of nodes) {
    const name = nameOf(node)
    let kept = name ? named.get(name) : next
    if (kept && !fits(kept, node)) kept = undefined
    if (!kept) {
      present.insertBefore(node, next)
      continue
    }
    if (kept === next) next = next.nextSibling
    else present.insertBefore(kept, next)
    patch(kept, node)
  }
  while (next) {
    const gone = next
    next = next.nextSibling
    gone.remove()
  }
}

function patch(present, wanted) {
  if (present.nodeType !== 1) {
    if (present.nodeValue !== wanted.nodeValue) present.nodeValue = wanted.nodeValue
    return
  }
  for (const { name } of [...present.attributes]) {
    const isOpen = name === 'open' && present.nodeName === 'DETAILS' // the reader has opened it
    if (!isOpen && !wanted.hasAttribute(name)) present.removeAttribute(name)
  }
  for (const { name, value } of wanted.attributes) {
    if (present.getAttribute(name) !== value) present.setAttribute(name, value)
  }
  if (present.nodeName !== 'TIME') children(present, wanted) // `tick` writes those
}

// The same as `duration` in formatting.py.
function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000))
  const two = (n) => String(n).padStart(2, '0')
  const [second, minute, hour, day] = units
  if (s < 60) return s + second
  if (s < 3600) return Math.floor(s / 60) + minute + ' ' + two(s % 60) + second
  if (s < 86400) return Math.floor(s / 3600) + hour + ' ' + two(Math.floor(s % 3600 / 60)) + minute
  return Math.floor(s / 86400) + day + ' ' + Math.floor(s % 86400 / 3600) + hour
}

function clock(at, now) {
  const isNear = Math.abs(now - at) < 43_200_000
  const style = isNear ? { timeStyle: 'medium' } : { dateStyle: 'medium', timeStyle: 'short' }
  return new Date(at).toLocaleString(document.documentElement.lang, { hour12: false, ...style })
}

function tick() {
  const now = Date.now() + skew
  for (const time of document.querySelectorAll('time')) {
    const { since, until, at } = time.dataset
    const text = since ? duration(now - since * 1000)
      : until ? duration(until * 1000 - now) : clock(at * 1000, now)
    if (time.textContent !== text) time.textContent = text
  }
}

if (page.stream) {
  show('connecting')
  connect()
  setInterval(tick, 1000)
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) disconnect()
    else {
      show('connecting')
      connect()
    }
  })
  addEventListener('pagehide', disconnect)
  addEventListener('pageshow', (event) => event.persisted && connect())
}
tick()
document.addEventListener('keydown', (event) => {
  const menu = document.querySelector('.menu[open]')
  if (event.key !== 'Escape' || !menu) return
  menu.open = false
  menu.querySelector('summary').focus()
})
