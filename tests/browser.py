"""Open a page in Chromium, which the package PySide6-Addons carries, and tell as JSON what became of it.

A process of its own: Qt wants its event loop and its environment to itself.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ASKED = """(() => {
    const images = [...document.images], ids = new Set([...document.querySelectorAll("[id]")].map(e => e.id));
    const links = [...document.querySelectorAll("a")].map(a => a.getAttribute("href"));
    const colours = ["color", "backgroundColor"].map(name => getComputedStyle(document.body)[name]);
    return JSON.stringify({
        title: document.title,
        headings: [...document.querySelectorAll("h1, h2")].map(h => h.textContent),
        rows: [...document.querySelector("table").rows].map(row => [...row.cells].map(cell => cell.textContent)),
        images: images.length,
        drawn: images.filter(image => image.complete && image.naturalWidth > 0).length,
        dead: links.filter(link => !link.startsWith("#") || !ids.has(link.slice(1))),
        links: links.length,
        colours: colours,
        tooWide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        injected: "injected" in window,
    });
})()"""


def main() -> None:
    """Open the page, wait until it is drawn, and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--scroll", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="where the window's picture goes")
    options = parser.parse_args()

    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    os.environ["QTWEBENGINE_DISABLE_SANDBOX"] = "1"  # which root and most containers cannot have
    preferred = {"dark": 0, "light": 1}[options.scheme]
    os.environ["QTWEBENGINE_CHROMIUM_FLAGS"] = f"--disable-gpu --blink-settings=preferredColorScheme={preferred}"
    from PySide6.QtCore import QTimer, QUrl
    from PySide6.QtWebEngineCore import QWebEnginePage, QWebEngineProfile, QWebEngineUrlRequestInterceptor
    from PySide6.QtWebEngineWidgets import QWebEngineView
    from PySide6.QtWidgets import QApplication

    requests, messages = [], []

    class Interceptor(QWebEngineUrlRequestInterceptor):
        def interceptRequest(self, info):  # noqa: N802 (Qt's name)
            requests.append(info.requestUrl().toString()[:200])

    class Page(QWebEnginePage):
        def javaScriptConsoleMessage(self, level, message, line, source):  # noqa: N802 (Qt's name)
            messages.append(message)

    application = QApplication(sys.argv[:1])
    profile, interceptor, view = QWebEngineProfile(), Interceptor(), QWebEngineView()
    profile.setUrlRequestInterceptor(interceptor)
    page = Page(profile, view)
    view.setPage(page)
    view.resize(options.width, options.height)
    view.show()

    def tell(found):
        if options.picture is not None and not view.grab().save(str(options.picture)):
            sys.exit(f"{options.picture} cannot be written")
        own = [url for url in requests if not url.startswith("data:")]
        print(json.dumps(json.loads(found) | {"requests": own, "messages": messages}), flush=True)
        os._exit(0)  # Qt ends its processes with it; taking them down one by one can hang

    def loaded(well):
        if not well:
            sys.exit(f"{options.page} cannot be loaded")
        page.runJavaScript(f"window.scrollTo(0, {options.scroll})")
        QTimer.singleShot(500, lambda: page.runJavaScript(ASKED, tell))  # until it is painted

    page.loadFinished.connect(loaded)
    page.load(QUrl.fromLocalFile(str(options.page.resolve())))
    application.exec()


if __name__ == "__main__":
    main()
