// A memory of what was used last.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

namespace bytenorm {

// At most `most` values; the least recently used one makes room.
template <class T>
class Recent {
  public:
    explicit Recent(size_t most) : most_(most) {}

    // The value that `is_it` says yes to, or else what `make` returns. It stays where it is until the next call.
    template <class Is, class Make>
    T& get(Is&& is_it, Make&& make) {
        const auto found = std::find_if(values_.begin(), values_.end(), is_it);
        if (found != values_.end()) {
            std::rotate(values_.begin(), found, found + 1);
            return values_.front();
        }
        T made = make();
        if (values_.size() == most_) values_.pop_back();
        values_.insert(values_.begin(), std::move(made));
        return values_.front();
    }

    size_t size() const { return values_.size(); }

  private:
    size_t most_;
    std::vector<T> values_;  // the last one used first
};

}  // namespace bytenorm
