module ohallo-operator/pause

go 1.26.0
