"""Task modules to learn from and to try perago with."""
