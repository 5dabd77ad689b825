// Browsers start no worker from a file on disk. The search of the site then runs in a hidden frame instead.
if (location.protocol === "file:") {
  const load = (names) =>
    names.reduce(
      (before, name) =>
        before.then(
          () =>
            new Promise((loaded) => {
              const script = document.createElement("script")
              script.src = name
              script.onload = loaded
              document.body.appendChild(script)
            })
        ),
      Promise.resolve()
    )
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.appendChild(this.frame)
      const inside = this.frame.contentWindow
      window.addEventListener("message", (message) => {
        if (message.source !== inside) return
        const event = new MessageEvent("message", { data: message.data })
        this.dispatchEvent(event)
        if (this.onmessage) this.onmessage(event)
      })
      inside.document.open()
      inside.document.write(
        `<body><script>
          postMessage = (data) => parent.postMessage(data, "*")
          importScripts = (...names) => (${load})(names)
        </scr` + `ipt><script src="${url}"></scr` + `ipt></body>`
      )
      inside.document.close()
    }
    postMessage(data) {
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) }))
    }
    terminate() {
      this.frame.remove()
    }
  }
}
